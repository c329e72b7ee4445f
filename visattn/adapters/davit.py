"""DaViT (Ding et al., ECCV 2022): window attention over tokens, then attention over channels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.resampling import stencil
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, moved, pixels, shrunk
from visattn.tokens.windows import cut, padded, token_plane

HOME = "timm.models.davit"
CHANNELS = "attention over channels: its weights relate channels of the whole image, not tokens"
IDENTITY = "attention over channels between the window attentions is walked as the identity"


@ADAPTERS.register("davit")
class DaVitAdapter(Adapter):
    """timm ``DaVit``; the head reads an average."""

    family = "davit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, HOME, "DaVit")

    @property
    def davit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return window attention stage by stage; attention over channels stands aside."""
        layout = shrunk(pixels(size), self.davit.stem)
        steps: list[Step] = []
        aside: dict[str, str] = {}
        for number, stage in enumerate(self.davit.stages):
            if not isinstance(stage.downsample, nn.Identity):
                merging, layout = downsampled(layout, stage.downsample)
                steps.extend(merging)
            for name, block in attending_blocks(f"stages.{number}.blocks", stage.blocks):
                if is_instance(block, HOME, "SpatialBlock"):
                    steps.append(Step.block(layout, windows(f"{name}.attn", block, layout)))
                else:
                    aside[f"{name}.attn"] = CHANNELS
        notes = (POINTWISE, IDENTITY) if aside else (POINTWISE,)
        readout = pooled_readout(layout, self.davit.head.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=notes, aside=aside)

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")


def attending_blocks(name: str, blocks: Any) -> Iterator[tuple[str, Any]]:
    """Yield the spatial and channel blocks of a stage, with their names."""
    for index, pair in enumerate(blocks):
        for part, block in pair.named_children():
            yield f"{name}.{index}.{part}", block


def windows(name: str, block: Any, layout: TokenLayout) -> Placement:
    """Return attention in windows, the feature map padded at bottom and right."""
    window = Size(*block.window_size)
    plane = padded(token_plane(layout.grid), window)
    return Placement.windowed(name, cut(plane, window), layout.tokens)


def downsampled(layout: TokenLayout, downsample: Any) -> tuple[tuple[Step, ...], TokenLayout]:
    """Return a strided convolution; even kernels read a map padded at bottom and right."""
    conv = downsample.conv
    if not downsample.even_k:
        return moved(layout, conv)
    high, wide = (-layout.grid[axis] % conv.kernel_size[axis] for axis in (0, 1))
    kernel = torch.ones(conv.kernel_size)
    skip, grid = stencil(layout.grid, kernel, conv.stride, after=(high, wide))
    return (Step(layout, (), skip),), layout.coarser(grid)
