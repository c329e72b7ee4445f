"""EfficientFormerV2 (Li et al., ICCV 2023): attention on a coarser grid, attention that merges."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import TALKING, Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import convolved, interpolated
from visattn.tokens.step import Placement, Step, since_attention
from visattn.tokens.strided import POINTWISE, pixels, shrunk, strided


@ADAPTERS.register("efficientformer_v2")
class EfficientFormerV2Adapter(Adapter):
    """timm ``EfficientFormerV2`` with attention (``num_vit`` > 0, or attention that merges)."""

    family = "efficientformer_v2"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it has attention."""
        home = "timm.models.efficientformer_v2"
        return is_instance(module, home, "EfficientFormerV2") and any(
            is_instance(part, home, "Attention2d", "Attention2dDownsample")
            for part in module.modules()
        )

    @property
    def former(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return merging and attention, stage by stage; the head reads an average."""
        layout = shrunk(pixels(size), self.former.stem)
        steps: list[Step] = []
        for number, stage in enumerate(self.former.stages):
            if not isinstance(stage.downsample, nn.Identity):
                step, layout = merging(f"stages.{number}.downsample", stage.downsample, layout)
                steps.append(step)
            for index, block in enumerate(stage.blocks):
                if block.token_mixer is not None:
                    name = f"stages.{number}.blocks.{index}.token_mixer"
                    placement = strided_attention(name, block.token_mixer, layout)
                    steps.append(Step.block(layout, placement))
        readout = pooled_readout(layout, self.former.global_pool)
        return Chain(since_attention(steps), layout, readout, notes=(POINTWISE, TALKING))

    def cam_site(self) -> Site:
        """Return the normalised feature map that the head averages."""
        return Site("norm", "output", "channels_first")


def merging(name: str, downsample: Any, layout: TokenLayout) -> tuple[Step, TokenLayout]:
    """Return a strided convolution, to which attention of coarse queries to all tokens adds."""
    step, after = strided(layout, downsample.conv.conv)
    if downsample.attn is None:
        return step, after
    origin, _ = convolved(layout.grid, downsample.attn.q.local)
    every, coarse = Reindex.identity(layout.tokens), Reindex.identity(after.tokens)
    placement = Placement(f"{name}.attn", coarse, every, origin=origin)
    return Step(layout, (placement,), step.skip), after


def strided_attention(name: str, attention: Any, layout: TokenLayout) -> Placement:
    """Place attention among the tokens, or among fewer whose outputs are enlarged again."""
    if attention.stride_conv is None:
        return Placement.whole(name, layout)
    keys, coarse = convolved(layout.grid, attention.stride_conv.conv)
    queries = interpolated(coarse, layout.grid, attention.upsample.mode)
    return Placement(name, queries, keys, origin=keys)
