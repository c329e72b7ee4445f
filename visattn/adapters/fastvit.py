"""FastViT (Vasu et al., ICCV 2023), MobileCLIP's image towers: convolution, then attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.resampling import stencil
from visattn.tokens.step import Step, since_attention
from visattn.tokens.strided import POINTWISE

HOME = "timm.models.fastvit"


@ADAPTERS.register("fastvit")
class FastVitAdapter(Adapter):
    """timm ``FastVit`` with stages of attention, with training or with merged branches."""

    family = "fastvit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it has blocks of attention."""
        return is_instance(module, HOME, "FastVit") and any(
            is_instance(part, HOME, "Attention") for part in module.modules()
        )

    @property
    def fastvit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return large strided convolutions and attention, stage by stage."""
        layout = stem_of_blocks(self.fastvit.stem, size)
        steps: list[Step] = []
        for number, stage in enumerate(self.fastvit.stages):
            if not isinstance(stage.downsample, nn.Identity):
                down, layout = large_kernel(stage.downsample.proj[0], layout)
                steps.append(down)
            for index, block in enumerate(stage.blocks):
                if is_instance(block, HOME, "AttentionBlock"):
                    name = f"stages.{number}.blocks.{index}.token_mixer"
                    steps.append(Step.attention(layout, name))
        return Chain(since_attention(steps), layout, self._readout(layout), notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head, or leaves the last stage without one."""
        if self.fastvit.fork_feat:
            return Site(f"stages.{len(self.fastvit.stages) - 1}", "output", "channels_first")
        return Site("head", "input", "channels_first")

    def _readout(self, layout: TokenLayout) -> Readout | Refusal:
        if self.fastvit.fork_feat:
            return Refusal(
                "this FastViT has no head (fork_feat=True), it returns the feature maps of its "
                "stages; choose a query: 'mean' or (row, col)"
            )
        return pooled_readout(layout, self.fastvit.head.global_pool.pool_type)


def stem_of_blocks(stem: Any, size: Size) -> TokenLayout:
    """Return the layout behind MobileOne blocks, whose branches all pad half of their kernel."""
    strides = [block.stride for block in stem]
    rows, cols = size
    for stride in strides:
        rows, cols = -(-rows // stride), -(-cols // stride)
    cell = float(math.prod(strides))
    return TokenLayout((), Size(rows, cols), (cell, cell))


def large_kernel(layer: Any, layout: TokenLayout) -> tuple[Step, TokenLayout]:
    """Return the step through a large strided convolution, its branches merged, and the layout."""
    side, half = layer.kernel_size, layer.kernel_size // 2
    with torch.no_grad():
        merged = layer.reparam_conv is not None
        weight = layer.reparam_conv.weight if merged else layer.get_kernel_bias()[0]
        kernel = torch.ones(side, side)
        if not weight.is_meta:
            kernel = weight.double().abs().sum(dim=(0, 1)).cpu()
    skip, grid = stencil(
        layout.grid, kernel, (layer.stride, layer.stride), (half,) * 2, (half,) * 2
    )
    return Step(layout, (), skip), layout.coarser(grid)
