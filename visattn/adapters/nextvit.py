"""Next-ViT (Li et al., 2022): convolution blocks, attention to keys pooled in reading order."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import pooled, stencil
from visattn.tokens.step import Placement, Step, since_attention
from visattn.tokens.strided import POINTWISE, pixels, shrunk


@ADAPTERS.register("nextvit")
class NextVitAdapter(Adapter):
    """timm ``NextViT``: a transformer block at the end of every few convolution blocks."""

    family = "nextvit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.nextvit", "NextViT")

    @property
    def nextvit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return pooling and attention, stage by stage; the head reads an average."""
        layout = shrunk(pixels(size), self.nextvit.stem)
        steps: list[Step] = []
        for number, stage in enumerate(self.nextvit.stages):
            for index, block in enumerate(stage.blocks):
                if not isinstance(block.patch_embed.pool, nn.Identity):
                    merging, layout = halving(block.patch_embed.pool, layout)
                    steps.append(merging)
                if hasattr(block, "e_mhsa"):
                    name = f"stages.{number}.blocks.{index}.e_mhsa"
                    steps.append(Step.block(layout, pooled_keys(name, block.e_mhsa, layout)))
        readout = pooled_readout(layout, self.nextvit.head.global_pool.pool_type)
        return Chain(since_attention(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the normalised feature map that the head pools."""
        return Site("head", "input", "channels_first")


def halving(pool: Any, layout: TokenLayout) -> tuple[Step, TokenLayout]:
    """Return average pooling whose last window may reach over the edge, and the layout behind."""
    rows, cols = pool.kernel_size
    over = (-layout.grid.height % rows, -layout.grid.width % cols)
    skip, grid = stencil(layout.grid, torch.ones(rows, cols), (rows, cols), after=over)
    return Step(layout, (), skip), layout.coarser(grid)


def pooled_keys(name: str, attention: Any, layout: TokenLayout) -> Placement:
    """Place attention whose keys average runs of tokens in row-major order, a rest left out."""
    if attention.sr is None:
        return Placement.whole(name, layout)
    run = attention.sr.kernel_size
    keys, _ = pooled(Size(1, layout.tokens), (1, run[0] if isinstance(run, tuple) else run))
    return Placement(name, Reindex.identity(layout.tokens), keys)
