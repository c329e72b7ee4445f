"""HieraDet, SAM 2's image encoder (Ravi et al., ICLR 2025): windows, queries pooled inside them."""

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
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import convolved
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import conv_layout
from visattn.tokens.windows import cut, padded, token_plane


@ADAPTERS.register("hieradet_sam2")
class HieraDetAdapter(Adapter):
    """timm ``HieraDet``: windows in most blocks, global attention in some."""

    family = "hieradet_sam2"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.hieradet_sam2", "HieraDet")

    @property
    def hiera(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return the blocks in order; where queries are pooled, the residual path is the pool."""
        embed = self.hiera.patch_embed
        plain = hasattr(embed, "patch_size")
        layout = patch_layout(embed, size) if plain else conv_layout(embed.proj, size)
        steps: list[Step] = []
        for index, block in enumerate(self.hiera.blocks):
            step, layout = windowed_pooling_block(f"blocks.{index}.attn", block, layout)
            steps.append(step)
        return Chain(tuple(steps), layout, pooled_readout(layout, self.hiera.head.pool_type))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_last")


def windowed_pooling_block(name: str, block: Any, layout: TokenLayout) -> tuple[Step, TokenLayout]:
    """Return a block's step and the layout behind it; windows shrink by the pool's stride."""
    after, skip = layout, Reindex.identity(layout.tokens)
    stride = (1, 1)
    if block.pool is not None:
        skip, grid = convolved(layout.grid, block.pool)
        after, stride = layout.coarser(grid), tuple(block.q_stride)
    window = tuple(block.window_size) if block.is_windowed else tuple(layout.grid)
    small = (window[0] // stride[0], window[1] // stride[1])
    slots = windows(layout.grid, window)
    keys = Reindex.gather(slots, layout.tokens)
    queries = Reindex.gather(windows(after.grid, small), after.tokens).transposed()
    return Step(layout, (Placement(name, queries, keys, len(slots)),), skip), after


def windows(grid: Size, window: tuple[int, ...]) -> torch.Tensor:
    """Return the tokens (window, slot) of contiguous windows, -1 where the grid was padded."""
    extent = Size(*window)
    return cut(padded(token_plane(grid), extent), extent)
