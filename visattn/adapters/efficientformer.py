"""EfficientFormer (Li et al., NeurIPS 2022): pooling stages, attention on the last grid alone."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter, Site
from visattn.adapters.chain import Chain
from visattn.adapters.convolution import convolutions, layout_behind, since_attention, strided
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.step import Step
from visattn.adapters.vision_transformer import is_instance, pooled_readout
from visattn.images import Size


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
        layout = layout_behind(convolutions(self.former.stem), size)
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
