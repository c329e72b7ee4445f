"""gae between an encoder and a decoder, against eq. 6 to 10 with dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import visattn
from tests import zoo
from tests.methods import oracle
from visattn.adapters import find_adapter
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.methods import get_method

pytest.importorskip("transformers")

NAME = "transformers_detr"
OBJECTS = 4
ENCODER, DECODER = range(2), range(2, 6, 2)


def score_of(query: int) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda outputs: outputs[:, query, 2]


def explicit(module: nn.Module) -> nn.Module:
    """Let the library compute explicit weights, which the oracle reads."""
    for part in module.modules():
        config: Any = getattr(part, "config", None)
        if config is not None:
            config._attn_implementation = "eager"
    return module


class LogitsOnly(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.module(inputs).logits
        return logits


@pytest.fixture(scope="module")
def dense() -> list[list[oracle.Dense]]:
    """Attention and gradients of each image and each object's score."""
    module = LogitsOnly(explicit(zoo.build(NAME)))
    inputs = zoo.images(2, zoo.size_of(NAME))
    return [[oracle.Dense(module, x, score_of(q)) for q in range(OBJECTS)] for x in inputs]


def positive(dense: oracle.Dense, index: int) -> torch.Tensor:
    return (dense.attn[index] * dense.gradient[index]).clamp(min=0).mean(dim=0)


def bar(relevance: torch.Tensor) -> torch.Tensor:
    """Eq. 8 and 9."""
    gained = relevance - oracle.identity(relevance)
    for row in range(len(gained)):
        if gained[row].sum() > 0:
            gained[row] /= gained[row].sum()
    return gained + oracle.identity(relevance)


def relevance(dense: oracle.Dense, layers: Any = range(6)) -> tuple[torch.Tensor, torch.Tensor]:
    """R_sq and R_qq by eq. 6 to 10."""
    patches = dense.attn[0].shape[-1]
    qq = torch.eye(patches, dtype=torch.float64)
    for index in ENCODER:
        if index in layers:
            qq = qq + positive(dense, index) @ qq
    ss = torch.eye(OBJECTS, dtype=torch.float64)
    sq = torch.zeros(OBJECTS, patches, dtype=torch.float64)
    for index in DECODER:
        if index in layers:
            ss, sq = ss + positive(dense, index) @ ss, sq + positive(dense, index) @ sq
        if index + 1 in layers:
            sq = sq + bar(ss).T @ positive(dense, index + 1) @ bar(qq)
    return sq, qq


def found(query: Any, score: int, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    model = visattn.load_model(zoo.build(NAME).to(dtype), image_size=zoo.size_of(NAME))
    inputs = zoo.images(2, zoo.size_of(NAME)).to(dtype)
    return visattn.explain(
        model, inputs, method="gae", query=query, target=score_of(score), **options
    )


def assert_close(grid: Any, right: torch.Tensor, tolerance: float = 1e-5) -> None:
    values = torch.from_numpy(grid.copy()).double().flatten()
    assert (values - right).abs().max() <= tolerance * right.abs().max()


@pytest.mark.parametrize("query", range(OBJECTS))
def test_each_object_is_a_row_of_the_dense_recursion(
    dense: list[list[oracle.Dense]], query: int
) -> None:
    for index, one in enumerate(found(f"object {query}", query)):
        right = relevance(dense[index][query])[0][query]
        assert_close(one.grid, right, 1e-7)  # maps are stored in float32


def test_float32_agrees_to_the_rounding_of_the_model(dense: list[list[oracle.Dense]]) -> None:
    """The backbone alone moves the features that enter the encoder by 1e-6 and more."""
    for index, one in enumerate(found("object 1", 1, torch.float32)):
        assert_close(one.grid, relevance(dense[index][1])[0][1], 5e-5)


@pytest.mark.parametrize("layers", [[3, 5], [0, 1, 2, 3], [4, 5], [1, 3], [5]])
def test_layers_that_are_left_out_have_no_relevance(
    dense: list[list[oracle.Dense]], layers: list[int]
) -> None:
    (one, _) = found("object 2", 2, layers=layers)
    assert_close(one.grid, relevance(dense[0][2], layers)[0][2])
    assert one.provenance["layers"] == layers


def test_a_patch_as_query_is_a_row_of_the_encoder(dense: list[list[oracle.Dense]]) -> None:
    (one, _) = found((1, 2), 0)
    rows, cols = one.grid.shape
    qq = relevance(dense[0][0])[1]
    assert_close(one.grid, (qq - oracle.identity(qq))[cols + 2])
    assert rows * cols == len(qq)


def test_wrong_variants_give_other_maps(dense: list[list[oracle.Dense]]) -> None:
    one = dense[0][0]
    sq, qq = relevance(one)
    right, plain, without_self = sq[0], torch.zeros_like(sq), torch.zeros_like(sq)
    ss = torch.eye(OBJECTS, dtype=torch.float64)
    for index in DECODER:
        ss = ss + positive(one, index) @ ss
        crossed = positive(one, index + 1)
        without_self = without_self + bar(ss).T @ crossed @ bar(qq)  # eq. 7 left out
        plain = plain + positive(one, index) @ plain
        plain = plain + ss.T @ crossed @ qq  # eq. 8 and 9 left out
    for wrong in (without_self[0], plain[0]):
        assert (wrong - right).abs().max() > 1e-3 * right.abs().max()


def test_the_target_must_score_the_object_of_the_query() -> None:
    with pytest.raises(UnsupportedMethodError, match=r"depend on query object 3.*object 0"):
        found("object 3", 0)
    maps = visattn.explain(
        zoo.build(NAME),
        zoo.images(1, zoo.size_of(NAME)),
        method="gae",
        query="object 3",
        target=lambda outputs: outputs[..., 2].sum(dim=1),
    )
    assert maps[0].grid.max() > 0


@pytest.mark.parametrize("outliers", ["mask", "redistribute"])
def test_treatments_of_outliers_are_refused(outliers: str) -> None:
    method = get_method("gae").create("gae", {"outliers": outliers, "query": "object 0"})
    reason = method.refusal(find_adapter(zoo.build(NAME)), Size(*zoo.size_of(NAME)))
    assert reason is not None
    assert "not defined where relevance is normalised" in reason


def test_without_an_object_the_refusal_says_how_to_choose_one() -> None:
    with pytest.raises(UnsupportedMethodError, match=r"query='object 0'"):
        found(None, 0)
