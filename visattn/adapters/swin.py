"""Swin transformers: v1 (Liu et al., ICCV 2021), v2 (CVPR 2022) and timm's v2-cr."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.patches import patch_layout
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.resampling import stencil
from visattn.tokens.step import Placement, Step
from visattn.tokens.windows import cut, padded, shifted, token_plane


@ADAPTERS.register("swin_transformer")
class SwinAdapter(Adapter):
    """timm ``SwinTransformer``, ``SwinTransformerV2`` and ``SwinTransformerV2Cr``."""

    family = "swin_transformer"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's three classes and their subclasses."""
        return (
            is_instance(module, "timm.models.swin_transformer", "SwinTransformer")
            or is_instance(module, "timm.models.swin_transformer_v2", "SwinTransformerV2")
            or is_instance(module, "timm.models.swin_transformer_v2_cr", "SwinTransformerV2Cr")
        )

    @property
    def swin(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return patch merging and shifted windows, stage by stage; the head reads an average."""
        layout = patch_layout(self.swin.patch_embed, size)
        stages = "layers" if hasattr(self.swin, "layers") else "stages"
        steps: list[Step] = []
        for number, stage in enumerate(getattr(self.swin, stages)):
            if not isinstance(stage.downsample, nn.Identity):
                merging, layout = patch_merging(layout)
                steps.append(merging)
            for index, block in enumerate(stage.blocks):
                name = f"{stages}.{number}.blocks.{index}.attn"
                steps.append(Step.block(layout, shifted_windows(name, block, layout)))
        readout = pooled_readout(layout, self.swin.head.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout)

    def block_sites(self) -> tuple[Site | None, ...]:
        """Return the output of every block, none for patch merging."""
        stages = "layers" if hasattr(self.swin, "layers") else "stages"
        sites: list[Site | None] = []
        for number, stage in enumerate(getattr(self.swin, stages)):
            sites += [] if isinstance(stage.downsample, nn.Identity) else [None]
            names = (f"{stages}.{number}.blocks.{i}" for i in range(len(stage.blocks)))
            sites += [Site(name, "output", "channels_last", norm=True) for name in names]
        return tuple(sites)

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        first = is_instance(
            self.module, "timm.models.swin_transformer_v2_cr", "SwinTransformerV2Cr"
        )
        return Site("head", "input", "channels_first" if first else "channels_last")


def shifted_windows(name: str, block: Any, layout: TokenLayout) -> Placement:
    """Place a block's tokens as timm does: roll by the shift, pad to whole windows, cut."""
    window = Size(*block.window_size)
    plane = padded(shifted(token_plane(layout.grid), block.shift_size), window)
    return Placement.windowed(name, cut(plane, window), layout.tokens)


def patch_merging(layout: TokenLayout) -> tuple[Step, TokenLayout]:
    """Return the merging of 2 x 2 tokens, an odd row or column padded, and the coarser layout."""
    odd = (layout.grid.height % 2, layout.grid.width % 2)
    skip, grid = stencil(layout.grid, torch.ones(2, 2), (2, 2), after=odd)
    return Step(layout, (), skip), layout.coarser(grid)
