"""Image encoders of vision-language models: a plain transformer, its tokens merged at the end.

timm offers each as an encoder, which hands tokens to a language model, and as a classifier around
it. Merging joins k x k tokens to one for the language model; a classifier may keep it.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch

from visattn.adapters.adapter import Adapter
from visattn.adapters.patches import patch_layout
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.site import Site
from visattn.adapters.vision_transformer import residual_blocks
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.resampling import stencil
from visattn.tokens.step import Step


class VisionLanguageAdapter(Adapter):
    """An encoder, or a classifier that holds one in ``encoder``; tokens have no prefix."""

    @property
    def encoder(self) -> Any:
        """The encoder, whose attributes timm defines."""
        return getattr(self.module, "encoder", self.module)

    @property
    @abstractmethod
    def merged(self) -> int:
        """How many tokens along each axis are merged to one behind the last block."""

    def layout(self, size: Size) -> TokenLayout:
        """Return the layout of the patches, before tokens are merged."""
        return patch_layout(self.encoder.patch_embed, size)

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the blocks in order, then the merging; the head averages or passes tokens on."""
        blocks = residual_blocks(self.encoder.blocks)
        if isinstance(blocks, Refusal):
            return blocks
        layout = end = self.layout(size)
        steps = [Step.attention(layout, *map(self._named, names)) for names in blocks]
        notes: tuple[str, ...] = ()
        if self.merged > 1:
            merging, end = token_merging(layout, self.merged)
            steps.append(merging)
            notes = (f"the merger of {self.merged} x {self.merged} tokens gives equal shares",)
        pool: Any = self.module.global_pool
        return Chain(tuple(steps), end, pooled_readout(end, pool), notes=notes)

    def cam_site(self) -> Site:
        """Return the tokens behind the last block, the latest on the grid of patches."""
        return Site(self._named(f"blocks.{len(self.encoder.blocks) - 1}"), "output", "tokens")

    def _named(self, part: str) -> str:
        return part if self.encoder is self.module else f"encoder.{part}"


def token_merging(layout: TokenLayout, size: int) -> tuple[Step, TokenLayout]:
    """Return the merging of ``size`` x ``size`` tokens, the rest padded, and the coarser layout."""
    rest = (-layout.grid.height % size, -layout.grid.width % size)
    skip, grid = stencil(layout.grid, torch.ones(size, size), (size, size), after=rest)
    cell = (layout.cell[0] * size, layout.cell[1] * size)
    return Step(layout, (), skip), TokenLayout(layout.prefix, grid, cell)
