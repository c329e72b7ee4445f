"""AttentionOperation as a linear operator, block by block."""

from __future__ import annotations

import pytest
import torch

import visattn
from tests import zoo
from visattn.errors import CaptureError
from visattn.observation import AttentionRecord, operation


@pytest.fixture(scope="module")
def record() -> AttentionRecord:
    return visattn.capture(zoo.build("registers"), zoo.images(3), gradients_of=1)


def test_record_is_a_sequence_by_index_and_name(record: AttentionRecord) -> None:
    assert len(record) == len(list(record)) == 3
    assert record["blocks.1.attn"] is record[1]
    assert [op.index for op in record] == [0, 1, 2]
    with pytest.raises(CaptureError, match=r"blocks\.2\.attn"):
        record["blocks.9.attn"]


def test_left_multiply_is_the_head_mean_product(record: AttentionRecord) -> None:
    for op in record:
        row = torch.rand(3, 20)
        right = torch.einsum("bq,bhqk->bk", row.double(), op.weights().double()) / 2
        torch.testing.assert_close(op.left_multiply(row).double(), right, rtol=1e-5, atol=1e-6)


def test_left_multiply_keeps_the_sum(record: AttentionRecord) -> None:
    row = torch.rand(3, 20)
    for op in record:
        torch.testing.assert_close(op.left_multiply(row).sum(1), row.sum(1))


def test_rows_are_rows_of_the_weights(record: AttentionRecord) -> None:
    weights = record[0].weights()
    assert weights.shape == record[0].shape == (3, 2, 20, 20)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 20))
    torch.testing.assert_close(record[0].rows([4, 1]), weights[:, :, [4, 1]])
    torch.testing.assert_close(record[0].rows(7), weights[:, :, 7:8])


def test_small_blocks_give_the_same_result(
    record: AttentionRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = torch.rand(3, 20)
    whole = record[1].left_multiply(row)
    monkeypatch.setattr(operation, "BLOCK_BYTES", 1)
    blocks = list(record[1].row_blocks(row))
    assert len(blocks) == 20
    torch.testing.assert_close(record[1].left_multiply(row), whole)


def test_rows_without_relevance_are_not_computed(record: AttentionRecord) -> None:
    row = torch.zeros(3, 20)
    row[0, 2], row[2, 5] = 1, 1
    (block,) = record[1].row_blocks(row)
    assert block.rows.tolist() == [2, 5]


def test_a_record_without_a_target_has_no_gradient() -> None:
    plain = visattn.capture(zoo.build("class"), zoo.images(1))
    assert plain[0].output_gradient is None
    assert next(plain[0].row_blocks()).gradient is None


def test_memory_of_a_record_is_linear_in_tokens() -> None:
    """No stored tensor of an operation has a (query, key) plane."""
    found = visattn.capture(zoo.build("registers"), zoo.images(1), gradients_of=0)
    tokens = found[0].shape[2]
    for op in found:
        for tensor in vars(op).values():
            if isinstance(tensor, torch.Tensor):
                assert tensor.shape[-2:] != (tokens, tokens)
