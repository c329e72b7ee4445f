"""Strided convolutions, pools and enlargements of hybrid models, against the layers themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.models.efficientformer_v2 import Attention2d
from timm.models.fastvit import FastVit, ReparamLargeKernelConv
from timm.models.levit import AttentionDownsample, Levit
from timm.models.nextvit import EfficientAttention, PatchEmbed
from torch import nn

from visattn.adapters import Chain, Readout, Refusal, Reindex, TokenLayout, find_adapter
from visattn.adapters.efficientformer_v2 import strided_attention
from visattn.adapters.fastvit import large_kernel, stem_of_blocks
from visattn.adapters.levit import subsampling
from visattn.adapters.nextvit import halving, pooled_keys
from visattn.images import Size
from visattn.tokens.step import Placement, Step, since_attention
from visattn.tokens.strided import pixels, shrunk, strided

GRIDS = [Size(5, 8), Size(6, 7), Size(4, 4)]


def layout(grid: Size) -> TokenLayout:
    return TokenLayout((), grid, (8.0, 8.0))


def one_hot(grid: Size) -> torch.Tensor:
    cells = grid.height * grid.width
    return torch.eye(cells, dtype=torch.float64).reshape(cells, 1, *grid)


def matrix_of(layer: Callable[[torch.Tensor], torch.Tensor], planes: torch.Tensor) -> torch.Tensor:
    """Return (cell out, cell in) of a linear layer on planes (cell in, 1, ...)."""
    return layer(planes).flatten(1).T


def assert_same(found: Reindex | None, wanted: torch.Tensor) -> None:
    assert found is not None
    torch.testing.assert_close(found.matrix(), wanted)


@pytest.mark.parametrize("size", [Size(64, 96), Size(61, 103), Size(50, 33)])
@pytest.mark.parametrize("name", ["levit_128s", "tiny_vit_5m_224", "caformer_s18", "nextvit_small"])
def test_a_stem_gives_the_grid_of_the_model(name: str, size: Size) -> None:
    with torch.device("meta"):
        module: Any = timm.create_model(name)
        stem = module.patch_embed if hasattr(module, "patch_embed") else module.stem
        made = stem(torch.empty(1, 3, *size)).shape[-2:]
    assert shrunk(pixels(size), stem).grid == tuple(made)


@pytest.mark.parametrize("size", [Size(64, 96), Size(61, 103)])
def test_mobile_one_blocks_give_the_grid_of_the_model(size: Size) -> None:
    with torch.device("meta"):
        stem: Any = timm.create_model("fastvit_sa12").stem
        made = stem(torch.empty(1, 3, *size)).shape[-2:]
    found = stem_of_blocks(stem, size)
    assert found.grid == tuple(made)
    assert found.cell == (4.0, 4.0)


def test_cells_grow_by_all_strides() -> None:
    layers = [nn.Conv2d(3, 4, 3, (2, 1), 1), nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 2, (2, 4))]
    assert shrunk(pixels(Size(40, 48)), *layers) == TokenLayout((), Size(10, 12), (4.0, 4.0))


@pytest.mark.parametrize("grid", GRIDS)
def test_a_strided_convolution_shares_by_its_kernel(grid: Size) -> None:
    conv = nn.Conv2d(1, 1, 3, 2, 1, bias=False).double()
    step, after = strided(layout(grid), conv)
    conv.weight.data.abs_()
    wanted = matrix_of(conv, one_hot(grid)).detach()
    assert_same(step.skip, wanted / wanted.sum(dim=1, keepdim=True))
    assert after.cell == (16.0, 16.0)


def test_the_walk_begins_with_attention() -> None:
    here = layout(Size(2, 2))
    move, attention = Step(here, (), Reindex.identity(4)), Step.attention(here, "attn")
    assert since_attention([move, attention, move]) == (attention, move)


@pytest.mark.parametrize("grid", GRIDS)
def test_pools_of_nextvit_are_its_own(grid: Size) -> None:
    pool = PatchEmbed(8, 8, stride=2).pool
    step, after = halving(pool, layout(grid))
    assert_same(step.skip, matrix_of(pool, one_hot(grid)))
    assert after.grid == tuple(pool(torch.zeros(1, 1, *grid)).shape[-2:])


@pytest.mark.parametrize("grid", GRIDS)
def test_keys_of_nextvit_are_runs_of_tokens(grid: Size) -> None:
    attention = EfficientAttention(32, sr_ratio=2)
    keys = pooled_keys("attn", attention, layout(grid)).keys
    assert_same(keys, matrix_of(attention.sr, one_hot(grid).flatten(2)))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("use_conv", [False, True])
@pytest.mark.parametrize("use_pool", [False, True])
def test_queries_of_levit_are_subsampled(grid: Size, use_conv: bool, use_pool: bool) -> None:
    attention = AttentionDownsample(
        8, 8, 4, 2, resolution=tuple(grid), use_conv=use_conv, use_pool=use_pool
    )
    step, after = subsampling("attn", attention, layout(grid))
    planes = one_hot(grid)
    down: Any = attention.q.down
    wanted = matrix_of(down, planes if use_conv else planes.flatten(2).transpose(1, 2))
    assert_same(step.placements[0].origin, wanted)
    assert after.tokens == wanted.shape[0]
    assert step.skip is None


def test_outputs_of_efficientformer_v2_are_enlarged_as_the_model_does() -> None:
    attention = Attention2d(8, 4, 2, resolution=(6, 8), stride=2)
    placement: Placement = strided_attention("attn", attention, layout(Size(6, 8)))
    assert attention.upsample is not None
    assert_same(placement.queries, matrix_of(attention.upsample, one_hot(Size(3, 4))))


@pytest.mark.parametrize("grid", GRIDS)
def test_merging_the_branches_of_fastvit_changes_nothing(grid: Size) -> None:
    layer = ReparamLargeKernelConv(4, 8, 7, 2, group_size=1, small_kernel=3).double().eval()
    before, after = large_kernel(layer, layout(grid))
    assert after.grid == tuple(layer(torch.zeros(1, 4, *grid).double()).shape[-2:])
    layer.reparameterize()
    merged, _ = large_kernel(layer, layout(grid))
    assert before.skip is not None
    assert_same(merged.skip, before.skip.matrix())


def test_models_that_cannot_be_walked_are_refused_by_name() -> None:
    stem = nn.Conv2d(3, 16, 16, 16)
    levit = Levit(
        32, embed_dim=(16,), key_dim=8, depth=(1,), num_heads=2, stem_backbone=stem, stem_stride=16
    )
    refused = find_adapter(levit).chain(Size(32, 32))
    assert isinstance(refused, Refusal)
    assert "the stem of this LeViT is a Conv2d" in refused.reason


def test_a_fastvit_without_head_has_no_readout() -> None:
    headless = FastVit(
        layers=(1,) * 4,
        embed_dims=(8, 8, 16, 32),
        token_mixers=("repmixer", "repmixer", "repmixer", "attention"),
        fork_feat=True,
    )
    chain = find_adapter(headless).chain(Size(64, 64))
    assert isinstance(chain, Chain)
    assert isinstance(chain.readout, Refusal)
    assert "fork_feat" in chain.readout.reason
    assert chain.layout.grid == (2, 2)


@pytest.mark.parametrize("name", ["convformer_s18", "poolformer_s12", "fastvit_t8"])
def test_relatives_without_attention_are_convolutional_networks(name: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(name)
    assert find_adapter(module).family == "convnet"


def test_a_readout_is_the_mean_of_the_last_grid() -> None:
    with torch.device("meta"):
        module = timm.create_model("caformer_s18")
    chain = find_adapter(module).chain(Size(224, 224))
    assert isinstance(chain, Chain)
    assert isinstance(chain.readout, Readout)
    assert len(chain.readout.row) == chain.end.tokens == 49
