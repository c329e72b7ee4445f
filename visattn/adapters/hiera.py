"""Hiera (Ryali et al., ICML 2023): mask units, queries pooled between stages.

The model keeps its tokens unrolled: the tokens that one pooling joins lie a whole quarter of the
sequence apart, and a mask unit is every n-th token. The steps here keep row-major order and give
each operation the places of its slots in the unrolled sequence.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import pooled
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import conv_layout
from visattn.tokens.windows import token_plane

Strides = tuple[tuple[int, int], ...]


@ADAPTERS.register("hiera")
class HieraAdapter(Adapter):
    """timm ``Hiera`` for images; the head averages the tokens of the last stage."""

    family = "hiera"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.hiera", "Hiera")

    @property
    def hiera(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the blocks in order; where queries are pooled, the residual path is the pool."""
        built = tuple(self.hiera.unroll.size)
        if len(built) != 2:
            return Refusal(f"this Hiera reads clips of {len(built)} axes; only images have a map")
        layout = conv_layout(self.hiera.patch_embed.proj, size)
        if tuple(layout.grid) != built:
            return Refusal(
                f"this Hiera is built for a grid of {built[0]} x {built[1]} tokens, an input of "
                f"{size.height} x {size.width} gives {layout.grid.height} x {layout.grid.width}; "
                "build it with that img_size"
            )
        strides: Strides = tuple(self.hiera.unroll.schedule)
        steps: list[Step] = []
        for index, block in enumerate(self.hiera.blocks):
            step, layout, strides = pooling_block(f"blocks.{index}.attn", block, layout, strides)
            steps.append(step)
        return Chain(tuple(steps), layout, pooled_readout(layout, self.hiera.head.pool_type))

    def cam_site(self) -> Site | Refusal:
        """Return the tokens that enter the head, unless they are still unrolled there."""
        if self.hiera.q_pool < len(self.hiera.unroll.schedule):
            return Refusal(
                "the tokens that enter the head are still unrolled, not in the order of a grid; "
                "use a method that walks attention, such as gae, or integrated_gradients"
            )
        return Site("head", "input", "tokens")


def pooling_block(
    name: str, block: Any, layout: TokenLayout, strides: Strides
) -> tuple[Step, TokenLayout, Strides]:
    """Return a block's step, with the layout and the unrolled strides that remain behind it."""
    attention = block.attn
    after, left, skip = layout, strides, Reindex.identity(layout.tokens)
    if attention.q_stride > 1:
        skip, grid = pooled(layout.grid, strides[0])
        after, left = layout.coarser(grid), strides[1:]
    units = 1
    if attention.use_mask_unit_attn:
        units = layout.tokens // (attention.q_stride * attention.window_size)
    keys = Reindex.gather(mask_units(layout.grid, strides, units), layout.tokens)
    queries = Reindex.gather(mask_units(after.grid, left, units), after.tokens).transposed()
    order = "bhw" if attention.use_mask_unit_attn else "bwh"
    return Step(layout, (Placement(name, queries, keys, units, order),), skip), after, left


def mask_units(grid: Size, strides: Strides, units: int) -> torch.Tensor:
    """Return the row-major token in each slot (unit, slot) of the unrolled sequence."""
    return unrolled(token_plane(grid), strides).reshape(-1, units).T


def unrolled(plane: torch.Tensor, strides: Strides) -> torch.Tensor:
    """Return a plane's tokens in timm's unrolled order: offsets within strides come first."""
    rows, cols = plane.shape
    parts = plane[None]
    for high, wide in strides:
        rows, cols = rows // high, cols // wide
        parts = parts.reshape(-1, rows, high, cols, wide).permute(0, 2, 4, 1, 3)
        parts = parts.reshape(-1, rows, cols)
    return parts.reshape(math.prod(plane.shape))
