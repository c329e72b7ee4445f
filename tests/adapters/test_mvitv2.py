"""MViTv2: where the tokens of its class activation maps lie, and what is pooled into a key."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import visattn
from tests import zoo
from tests.zoo.mvitv2 import mvit
from visattn.adapters import Chain, TokenLayout, find_adapter
from visattn.images import Size

SIZE = (64, 96)


def walked(module: nn.Module) -> Chain:
    chain = find_adapter(module).chain(Size(*SIZE))
    assert isinstance(chain, Chain)
    return chain


def test_a_last_block_that_pools_has_its_map_on_the_finer_grid() -> None:
    torch.manual_seed(0)
    module = mvit(use_cls_token=True, depths=(1, 1)).eval()
    layout = find_adapter(module).layout(Size(*SIZE))
    assert isinstance(layout, TokenLayout)
    assert tuple(layout.grid) == (16, 24)
    (found,) = visattn.explain(module, zoo.images(1, SIZE), method="gradcam", target=1)
    assert found.grid.shape == (16, 24)


def test_keys_lie_on_the_tokens_that_the_value_was_pooled_from() -> None:
    module: Any = mvit(stride_kv_adaptive=(2, 2))
    with torch.no_grad():
        kernel = module.stages[0].blocks[0].attn.pool_v.weight.zero_()
        kernel[:, :, 1, 2] = 1.0
    (placement,) = walked(module).steps[0].placements
    second_slot = placement.keys.matrix()[1]
    assert second_slot.nonzero().flatten().tolist() == [3]


def test_the_walk_says_that_pooled_queries_are_added() -> None:
    (noted,) = walked(mvit()).notes
    assert "pooled queries" in noted
    assert walked(mvit(residual_pooling=False)).notes == ()
