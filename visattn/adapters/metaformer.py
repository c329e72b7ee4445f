"""MetaFormer (Yu et al., CVPR 2022, TPAMI 2024): CAFormer, convolution first, then attention."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.step import Step, since_attention
from visattn.tokens.strided import POINTWISE, pixels, shrunk, strided

HOME = "timm.models.metaformer"


@ADAPTERS.register("metaformer")
class MetaFormerAdapter(Adapter):
    """timm ``MetaFormer`` with at least one stage of attention; PoolFormer has none."""

    family = "metaformer"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where one of its token mixers is attention."""
        return is_instance(module, HOME, "MetaFormer") and any(
            is_instance(part, HOME, "Attention") for part in module.modules()
        )

    @property
    def former(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return strided convolutions and attention, stage by stage; the head reads an average."""
        layout = shrunk(pixels(size), self.former.stem.conv)
        steps: list[Step] = []
        mixed = False
        for number, stage in enumerate(self.former.stages):
            if not isinstance(stage.downsample, nn.Identity):
                down, layout = strided(layout, stage.downsample.conv)
                steps.append(down)
            for index, block in enumerate(stage.blocks):
                if is_instance(block.token_mixer, HOME, "Attention"):
                    name = f"stages.{number}.blocks.{index}.token_mixer"
                    steps.append(Step.attention(layout, name))
                else:
                    mixed |= any(step.placements for step in steps)
        readout = pooled_readout(layout, self.former.head.global_pool.pool_type)
        notes = (POINTWISE,) if mixed else ()
        return Chain(since_attention(steps), layout, readout, notes=notes)

    def cam_site(self) -> Site:
        """Return the feature map that the head pools."""
        return Site("head.global_pool", "input", "channels_first")
