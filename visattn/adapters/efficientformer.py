"""EfficientFormer (Li et al., NeurIPS 2022): pooling stages, attention on the last grid alone."""

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
from visattn.tokens.strided import pixels, shrunk, strided


@ADAPTERS.register("efficientformer")
class EfficientFormerAdapter(Adapter):
    """timm ``EfficientFormer`` with attention (``num_vit`` > 0)."""

    family = "efficientformer"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it has blocks of attention."""
        home = "timm.models.efficientformer"
        return is_instance(module, home, "EfficientFormer") and any(
            is_instance(part, home, "Attention") for part in module.modules()
        )

    @property
    def former(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return the blocks of attention, which stand behind all pooling blocks."""
        layout = shrunk(pixels(size), self.former.stem)
        steps: list[Step] = []
        for number, stage in enumerate(self.former.stages):
            if not isinstance(stage.downsample, nn.Identity):
                down, layout = strided(layout, stage.downsample.conv)
                steps.append(down)
            for index, block in enumerate(stage.blocks):
                if is_instance(block, "timm.models.efficientformer", "MetaBlock1d"):
                    name = f"stages.{number}.blocks.{index}.token_mixer"
                    steps.append(Step.attention(layout, name))
        readout = pooled_readout(layout, self.former.global_pool)
        return Chain(since_attention(steps), layout, readout)

    def cam_site(self) -> Site:
        """Return the normalised tokens that the head averages."""
        return Site("norm", "output", "tokens")
