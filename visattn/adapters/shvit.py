"""SHViT (Yun and Ro, CVPR 2024): single-head attention of a part of the channels."""

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
from visattn.tokens.step import Step
from visattn.tokens.strided import POINTWISE, moved, pixels, shrunk

HOME = "timm.models.shvit"


@ADAPTERS.register("shvit")
class SHViTAdapter(Adapter):
    """timm ``SHViT`` with attention in at least one stage, its layers fused or not."""

    family = "shvit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it contains attention."""
        return is_instance(module, HOME, "SHViT") and any(
            is_instance(part, HOME, "SHSA") for part in module.modules()
        )

    @property
    def shvit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return patch merging and attention from the first attention on.

        Channels that do not attend stay with their token, like the residual path.
        """
        layout = shrunk(pixels(size), self.shvit.patch_embed)
        steps: list[Step] = []
        for number, stage in enumerate(self.shvit.stages):
            steps.extend(moved(layout, stage.downsample)[0] if steps else ())
            layout = shrunk(layout, stage.downsample)
            for index, block in enumerate(stage.blocks):
                if not isinstance(block.mixer, nn.Identity):
                    name = f"stages.{number}.blocks.{index}.mixer.m"
                    steps.append(Step.attention(layout, name))
        readout = pooled_readout(layout, self.shvit.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that is pooled."""
        return Site("global_pool", "input", "channels_first")
