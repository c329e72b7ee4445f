"""What `inspect_model` says about artefact tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import visattn
from tests.zoo import GRID, build, images, size_of
from visattn.gate_statistics import BATCH_SIZE
from visattn.images import Size


def with_a_large_token() -> torch.nn.Module:
    module: Any = build("registers")

    def enlarge(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        tokens = output.clone()
        tokens[:, 5 + GRID[1] + 2] *= 30
        return tokens

    module.blocks[1].register_forward_hook(enlarge)
    return module


def test_layers_are_listed_with_sinks_prefix_share_and_high_norms() -> None:
    report = visattn.inspect_model(with_a_large_token(), images=images(4))
    assert not isinstance(report.outliers, str)
    assert [row.layer for row in report.outliers] == [0, 1, 2]
    assert report.outliers[1].norm_outliers == 1
    assert all(0 < share(row) < 1 for row in report.outliers)
    page = str(report).split("mean of an image, on photographs\n")[1].splitlines()
    assert page[1].startswith("  layer 1   sinks ")
    assert page[1].endswith("high norm 1")


def test_numbers_are_means_over_the_images() -> None:
    module = build("class")
    both, *single = (
        visattn.inspect_model(module, images=images(2)[chosen]).outliers
        for chosen in (slice(None), slice(0, 1), slice(1, 2))
    )
    for mean, first, second in zip(both, *single, strict=True):
        expected = (share(first) + share(second)) / 2
        assert share(mean) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("kind", "passes"), [("class", 2), ("resnet", 1)])
def test_many_images_are_run_a_few_at_a_time(kind: str, passes: int) -> None:
    """A batch of its own for all of a folder's photos would not fit into any memory."""
    module, many = build(kind), images(2).repeat(10, 1, 1, 1)
    seen: list[int] = []
    module.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    visattn.inspect_model(module, images=many)
    on_images = [each for each in seen if each > 1]
    assert on_images == [BATCH_SIZE, BATCH_SIZE, len(many) - 2 * BATCH_SIZE] * passes


def test_means_do_not_depend_on_how_many_are_run_together(monkeypatch: Any) -> None:
    module, many = build("class").double(), images(5).double()
    found = []
    for size in (1, 2, 5):
        monkeypatch.setattr("visattn.gate_statistics.BATCH_SIZE", size)
        found.append(visattn.inspect_model(module, images=many).outliers)
    for rows in zip(*found, strict=True):
        assert [row.layer for row in rows] == [rows[0].layer] * 3
        for name in ("sinks", "sink_share", "prefix_share", "norm_outliers"):
            values = [getattr(row, name) for row in rows]
            assert values == pytest.approx([values[0]] * 3)


def share(row: Any) -> float:
    assert row.prefix_share is not None
    return float(row.prefix_share)


def test_without_images_the_noise_is_judged() -> None:
    assert len(visattn.inspect_model(build("mean")).outliers) == 3


def test_unread_norms_are_unknown_and_other_models_say_why() -> None:
    hiera = visattn.inspect_model(build("hiera"), size=Size(*size_of("hiera")))
    assert "high norm unknown" in str(hiera)
    assert "sinks 0 with 0.0% of the attention" in str(hiera)
    assert "on noise" in str(hiera)
    resnet = visattn.inspect_model(build("resnet"))
    assert isinstance(resnet.outliers, str)
    assert "attention" in resnet.outliers
    assert f"  {resnet.outliers}" in str(resnet)
