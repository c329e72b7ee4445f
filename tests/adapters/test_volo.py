"""VOLO: the auxiliary classifier leaves no fixed read-out; outlook windows overlap."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import visattn
from tests import zoo
from visattn.adapters import Chain, Refusal, find_adapter
from visattn.errors import UnsupportedMethodError
from visattn.images import Size


def chain_of(name: str) -> Chain:
    chain = find_adapter(zoo.build(name)).chain(Size(*zoo.FAMILIES[name].size))
    assert isinstance(chain, Chain)
    return chain


def test_the_auxiliary_classifier_needs_a_query() -> None:
    size = zoo.FAMILIES["volo_auxiliary"].size
    model = visattn.load_model(zoo.build("volo_auxiliary"), image_size=size)
    inputs = zoo.images(1, size)
    with pytest.raises(UnsupportedMethodError, match="auxiliary classifier"):
        visattn.explain(model, inputs, method="rollout")
    (asked,) = visattn.explain(model, inputs, method="rollout", query="cls")
    assert 0.1 < float(asked.grid.sum()) < 1


def test_the_auxiliary_classifier_reads_patch_tokens() -> None:
    """The reason for the refusal: patch tokens behind class attention change the scores."""
    for name, reads in (("volo_auxiliary", True), ("volo", False)):
        module = zoo.build(name)
        tokens = torch.randn(1, 1 + 4 * 6, 32, generator=torch.Generator().manual_seed(0))
        changed = torch.cat([tokens[:, :1], tokens[:, 1:] + 1], dim=1)
        head: Any = module
        scores = [head.forward_head(part) for part in (tokens, changed)]
        assert torch.equal(*scores) is not reads


def test_outlook_windows_overlap_by_one_row_and_column() -> None:
    """3 x 3 windows around every second token of a 5 x 7 map: corners lie in one, most in more."""
    chain = chain_of("volo_odd_mean")
    (placement,) = chain.steps[0].placements
    assert placement.windows == 3 * 4
    held = placement.keys.matrix().sum(dim=0)[chain.layout.places].reshape(5, 7)
    wanted = torch.tensor([1.0, 2, 1, 2, 1, 2, 1], dtype=torch.float64)
    assert torch.equal(held, wanted[:5, None] * wanted)
    assert placement.keys.sums.sum() == held.sum()


def test_a_first_patch_token_is_not_called_class() -> None:
    module = zoo.build("volo_no_class")
    module.global_pool = "token"  # type: ignore[assignment]
    chain = find_adapter(module).chain(Size(*zoo.FAMILIES["volo_no_class"].size))
    assert isinstance(chain, Chain)
    assert not isinstance(chain.readout, Refusal)
    assert chain.readout.description == "first patch token"
