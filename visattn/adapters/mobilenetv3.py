"""Hybrids of MobileNetV4 (Qin et al., ECCV 2024): convolutions and multi-query attention."""

from __future__ import annotations

from collections.abc import Iterator
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
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import convolved, interpolated
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, moved, pixels, shrunk


@ADAPTERS.register("mobilenetv3")
class MobileNetV3Adapter(Adapter):
    """timm ``MobileNetV3`` with blocks of mobile attention; the head reads an average."""

    family = "mobilenetv3"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it contains attention."""
        return is_instance(module, "timm.models.mobilenetv3", "MobileNetV3") and any(
            map(is_mobile_attention, module.modules())
        )

    @property
    def mobilenet(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return attention and strided convolutions from the first attention on."""
        layout = shrunk(pixels(size), self.mobilenet.conv_stem)
        steps: list[Step] = []
        for name, block in stages_of_blocks(self.mobilenet.blocks):
            if is_mobile_attention(block):
                steps.append(mobile_attention(f"{name}.attn", block, layout))
                continue
            steps.extend(moved(layout, block)[0] if steps else ())
            layout = shrunk(layout, block)
        readout = pooled_readout(layout, self.mobilenet.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that is pooled."""
        return Site("global_pool", "input", "channels_first")


def is_mobile_attention(part: nn.Module) -> bool:
    """Return whether ``part`` is timm's block of mobile attention."""
    return is_instance(part, "timm.models._efficientnet_blocks", "MobileAttention")


def stages_of_blocks(stages: Any) -> Iterator[tuple[str, Any]]:
    """Yield the blocks of all stages with their names."""
    for number, stage in enumerate(stages):
        for index, block in enumerate(stage):
            yield f"blocks.{number}.{index}", block


def mobile_attention(name: str, block: Any, layout: TokenLayout) -> Step:
    """Return a block's step: queries may be pooled and enlarged again, keys made by a convolution.

    A key slot is spread by the convolution of its value, the one that hands the content on.
    """
    every = Reindex.identity(layout.tokens)
    queries, keys, origin = every, every, every
    pool = getattr(getattr(block.attn, "query", None), "down_pool", None)
    if pool is not None:
        origin, coarse = convolved(layout.grid, pool)
        queries = interpolated(coarse, layout.grid, block.attn.output.upsample.mode)
    conv = getattr(getattr(block.attn, "value", None), "down_conv", None)
    if conv is not None:
        keys = convolved(layout.grid, conv)[0]
    placement = Placement(name, queries, keys, origin=origin)
    return Step(layout, (placement,), every if block.has_skip else None)
