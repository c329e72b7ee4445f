"""TinyViT (Wu et al., ECCV 2022): windows without shifts, joined by convolutions."""

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
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Placement, Step, since_attention
from visattn.tokens.strided import POINTWISE, pixels, shrunk, strided
from visattn.tokens.windows import cut, padded, token_plane


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
        layout = shrunk(pixels(size), self.tiny.patch_embed)
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
        return Chain(since_attention(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")


def plain_windows(name: str, window: Size, layout: TokenLayout) -> Placement:
    """Place tokens in windows without shift, the grid padded at bottom and right."""
    plane = padded(token_plane(layout.grid), window)
    return Placement.windowed(name, cut(plane, window), layout.tokens)
