"""LeViT (Graham et al., ICCV 2021): a convolutional stem, attention that subsamples its queries."""

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
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import convolved, stencil
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import pixels, shrunk


@ADAPTERS.register("levit")
class LevitAdapter(Adapter):
    """timm ``Levit`` and ``LevitDistilled``, made of linear layers or of 1 x 1 convolutions."""

    family = "levit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.levit", "Levit")

    @property
    def levit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the blocks in order; between stages attention shrinks the grid, no residual."""
        if not is_instance(self.levit.stem, "timm.models.levit", "Stem8", "Stem16"):
            return Refusal(
                f"the stem of this LeViT is a {type(self.levit.stem).__name__}, whose grid is not "
                "known; LeViT with its own stem (stem_type 's8' or 's16') can be walked"
            )
        layout = shrunk(pixels(size), self.levit.stem)
        steps: list[Step] = []
        for number, stage in enumerate(self.levit.stages):
            if not isinstance(stage.downsample, nn.Identity):
                name = f"stages.{number}.downsample.attn_downsample"
                step, layout = subsampling(name, stage.downsample.attn_downsample, layout)
                steps.append(step)
            names = (f"stages.{number}.blocks.{i}.attn" for i in range(len(stage.blocks)))
            steps.extend(Step.attention(layout, name) for name in names)
        return Chain(tuple(steps), layout, pooled_readout(layout, self.levit.global_pool))

    def cam_site(self) -> Site:
        """Return the tokens, or the feature map, that the head averages."""
        last = f"stages.{len(self.levit.stages) - 1}"
        return Site(last, "output", "channels_first" if self.levit.use_conv else "tokens")


def subsampling(name: str, attention: Any, layout: TokenLayout) -> tuple[Step, TokenLayout]:
    """Return attention from every ``stride``-th token to all tokens, and the layout behind it."""
    down = attention.q.down
    pool = down if isinstance(down, nn.AvgPool2d) else down.pool
    if pool is None:
        origin, grid = stencil(layout.grid, torch.ones(1, 1), (down.stride, down.stride))
    else:
        origin, grid = convolved(layout.grid, pool)
    after = layout.coarser(grid)
    every, coarse = Reindex.identity(layout.tokens), Reindex.identity(after.tokens)
    return Step(layout, (Placement(name, coarse, every, origin=origin),)), after
