"""TinyViT (Wu et al., ECCV 2022): windows without shifts, joined by convolutions."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter, Site
from visattn.adapters.chain import Chain
from visattn.adapters.convolution import (
    STRIDE_ONE,
    convolutions,
    layout_behind,
    since_attention,
    strided,
)
from visattn.adapters.layout import TokenLayout
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.step import Placement, Step
from visattn.adapters.vision_transformer import is_instance, pooled_readout
from visattn.adapters.windows import cut, padded, token_plane
from visattn.images import Size


@ADAPTERS.register("tiny_vit")
class TinyVitAdapter(Adapter):
    """timm ``TinyVit``: a stage of convolutions, then stages of windows."""

    family = "tiny_vit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.tiny_vit", "TinyVit")

    @property
    def tiny(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return strided convolutions and windows, stage by stage; the head reads an average."""
        layout = layout_behind(convolutions(self.tiny.patch_embed), size)
        steps: list[Step] = []
        for number, stage in enumerate(self.tiny.stages):
            if hasattr(stage, "downsample") and not isinstance(stage.downsample, nn.Identity):
                merging, layout = strided(layout, stage.downsample.conv2.conv)
                steps.append(merging)
            for index, block in enumerate(stage.blocks):
                if hasattr(block, "attn"):
                    name = f"stages.{number}.blocks.{index}.attn"
                    window = Size(block.window_size, block.window_size)
                    steps.append(Step.block(layout, plain_windows(name, window, layout)))
        readout = pooled_readout(layout, self.tiny.head.global_pool.pool_type)
        return Chain(since_attention(steps), layout, readout, notes=(STRIDE_ONE,))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")


def plain_windows(name: str, window: Size, layout: TokenLayout) -> Placement:
    """Place tokens in windows without shift, the grid padded at bottom and right."""
    plane = padded(token_plane(layout.grid), window)
    return Placement.windowed(name, cut(plane, window), layout.tokens)
