"""EfficientViT (Liu et al., CVPR 2023): windows of cascaded group attention."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.tiny_vit import plain_windows
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, pixels, shrunk, strided

CASCADE = (
    "the heads of cascaded group attention, of which each also reads the previous one's output, "
    "are walked side by side"
)


@ADAPTERS.register("efficientvit_msra")
class EfficientVitMsraAdapter(Adapter):
    """timm ``EfficientVitMsra``: every head of a block is an operation of its own."""

    family = "efficientvit_msra"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.efficientvit_msra", "EfficientVitMsra")

    @property
    def efficientvit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return patch merging and windows, stage by stage; the head reads an average."""
        layout = shrunk(pixels(size), self.efficientvit.patch_embed)
        steps: list[Step] = []
        for number, stage in enumerate(self.efficientvit.stages):
            if not isinstance(stage.downsample, nn.Identity):
                merging, layout = strided(layout, stage.downsample.patchmerge.conv2.conv)
                steps.append(merging)
            for index, block in enumerate(stage.blocks):
                name = f"stages.{number}.blocks.{index}.mixer.m.attn"
                steps.append(Step.block(layout, *heads(name, block.mixer.m.attn, layout)))
        readout = pooled_readout(layout, self.efficientvit.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=(CASCADE, POINTWISE))

    def cam_site(self) -> Site:
        """Return the feature map that the head pools."""
        return Site("global_pool", "input", "channels_first")


def heads(name: str, attention: Any, layout: TokenLayout) -> list[Placement]:
    """Place each head of a block in windows; their side is what the input left of the wanted."""
    window = Size(attention.resolution, attention.resolution)
    names = [name, *(f"{name}#{head}" for head in range(2, len(attention.qkvs) + 1))]
    return [plain_windows(operation, window, layout) for operation in names]
