"""CrossViT: what the two heads read, and which cells of the fine grid coarse patches cover."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests import zoo
from tests.zoo.crossvit import crossvit
from visattn.adapters import Chain, Readout, Refusal, Site, find_adapter
from visattn.images import Size
from visattn.observation import observe

SIZE = Size(*zoo.FAMILIES["crossvit"].size)


def chain_of(name: str) -> Chain:
    chain = find_adapter(zoo.build(name)).chain(SIZE)
    assert isinstance(chain, Chain)
    return chain


@pytest.mark.parametrize("name", ["crossvit", "crossvit_fusion_blocks"])
def test_the_heads_read_the_declared_tokens_of_both_branches(name: str) -> None:
    sites = [Site(f"norm.{branch}", "output", "tokens") for branch in (0, 1)]
    weights = torch.randn(1, 5, generator=torch.Generator().manual_seed(3))
    seen = observe(
        zoo.build(name),
        zoo.images(1, SIZE),
        attention=False,
        sites=sites,
        score=lambda outputs: (outputs * weights).sum(dim=1),
    )
    strengths = []
    for site in sites:
        gradient = seen.activations[site].gradient
        assert gradient is not None
        strengths.append(gradient[0].norm(dim=-1))
    readout = chain_of(name).readout
    assert isinstance(readout, Readout)
    assert torch.equal(torch.cat(strengths) > 0, readout.row > 0)
    assert readout.row.sum() == pytest.approx(1)


def test_coarse_patches_share_by_the_area_that_they_cover() -> None:
    """Coarse patches are 20 x 20 pixels here, fine ones 12 x 12."""
    first = chain_of("crossvit").steps[0]
    assert first.skip is not None
    patch = first.skip.matrix()[1 + 5 * 10 + 1 + 1 * 6 + 0, 2:].reshape(5, 10)
    rows, cols = torch.tensor([4.0, 12, 4]), torch.tensor([12.0, 8])
    expected = torch.zeros(5, 10, dtype=torch.float64)
    expected[1:4, :2] = torch.outer(rows, cols) / 400
    assert torch.allclose(patch, expected)


def test_a_branch_that_sees_the_centre_only_is_refused() -> None:
    refusal = find_adapter(crossvit(crop_scale=True)).chain(Size(120, 240))
    assert isinstance(refusal, Refusal)
    assert "crop_scale" in refusal.reason


@pytest.mark.parametrize("branch", [0, 1])
def test_the_class_token_of_a_branch_asks_in_the_fusion_declared_for_it(branch: int) -> None:
    """With the other head silenced, only what this branch's class token asked reaches the score."""
    module: Any = zoo.build("crossvit")
    for parameter in module.head[1 - branch].parameters():
        parameter.data.zero_()
    seen = observe(module, zoo.images(1, SIZE), score=lambda outputs: outputs[:, 1])
    operations = {operation.name: operation for operation in seen.operations}
    chain = chain_of("crossvit")
    token = [0, chain.end.tokens - chain.end.suffix][branch]
    asks = {}
    for step in chain.steps[-2:]:
        (placement,) = step.placements
        gradient = operations[placement.operation].output_gradient
        assert gradient is not None
        asks[placement.operation] = bool(gradient.any())
        assert asks[placement.operation] == bool(placement.queries.sums[token])
    assert sorted(asks.values()) == [False, True]
