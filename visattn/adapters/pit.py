"""PiT, pooling-based ViT (Heo et al., ICCV 2021): three stages with strided convolutions between.

The class token, and the distillation token where there is one, accompany the grid through all
stages.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.resampling import convolved
from visattn.tokens.step import Step
from visattn.tokens.strided import conv_layout


@ADAPTERS.register("pit")
class PitAdapter(Adapter):
    """timm ``PoolingVisionTransformer``."""

    family = "pit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.pit", "PoolingVisionTransformer")

    @property
    def pit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def prefix(self) -> tuple[str, ...]:
        """Name the prefix tokens in their order."""
        return ("class", "distillation")[: self.pit.num_tokens]

    def chain(self, size: Size) -> Chain:
        """Return global attention in each stage and the convolutions between stages."""
        layout = overlapping_patches(self.pit.patch_embed.conv, size, self.prefix())
        steps: list[Step] = []
        for number, stage in enumerate(self.pit.transformers):
            if stage.pool is not None:
                pooling, layout = pooled_grid(layout, stage.pool.conv)
                steps.append(pooling)
            names = (f"transformers.{number}.blocks.{i}.attn" for i in range(len(stage.blocks)))
            steps += [Step.attention(layout, name) for name in names]
        return Chain(tuple(steps), layout, self.readout(layout))

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return the class token, or its mean with the distillation token: heads are averaged."""
        if self.pit.head_dist is not None:
            return Readout("mean of class and distillation token", layout.one(0, 1))
        return pooled_readout(layout, self.pit.global_pool)

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last attention."""
        stage = len(self.pit.transformers) - 1
        block = len(self.pit.transformers[stage].blocks) - 1
        return Site(f"transformers.{stage}.blocks.{block}.norm1", "output", "tokens")


def overlapping_patches(conv: Any, size: Size, prefix: tuple[str, ...]) -> TokenLayout:
    """Return the layout behind an unpadded convolution whose patches are wider than its stride.

    Cells divide what the patches cover between them, so that every cell lies inside the patch of
    its own token; cells of one stride would lie half an overlap towards the origin.
    """
    grid = conv_layout(conv, size).grid
    axes = zip(grid, conv.kernel_size, conv.stride, strict=True)
    height, width = ((stride * (count - 1) + kernel) / count for count, kernel, stride in axes)
    return TokenLayout(prefix, grid, (height, width))


def pooled_grid(layout: TokenLayout, conv: nn.Module) -> tuple[Step, TokenLayout]:
    """Return the strided convolution of the grid, prefix tokens kept, and the coarser layout."""
    skip, grid = convolved(layout.grid, conv)
    return Step(layout, (), skip.behind(len(layout.prefix))), layout.coarser(grid)
