"""The fusion of MobileNetV5: every map that is joined counts equally, at its own resolution."""

from __future__ import annotations

import pytest
import torch

from tests import zoo
from visattn.adapters import Chain, Refusal, find_adapter
from visattn.images import Size

SIZE = Size(64, 96)


def test_joined_maps_count_equally() -> None:
    chain = find_adapter(zoo.build("mobilenetv5_three_scales")).chain(SIZE)
    assert isinstance(chain, Chain)
    fused = chain.steps[-1]
    assert fused.skip is not None
    sizes = [4 * 6, 16 * 24, 8 * 12]  # the current map, then the waiting ones in their order
    assert fused.before.tokens == sum(sizes)
    row = fused.skip(torch.full((1, chain.end.tokens), 1 / chain.end.tokens))
    parts = row.split(sizes, dim=1)
    assert [float(part.sum()) for part in parts] == pytest.approx([1 / 3] * 3)


def test_a_fusion_without_the_last_stage_is_refused() -> None:
    module = zoo.build("mobilenetv5")
    module.msfa_indices = [1, 2]
    refused = find_adapter(module).chain(SIZE)
    assert isinstance(refused, Refusal)
    assert "(1, 2)" in refused.reason
