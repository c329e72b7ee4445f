"""LowFormer (Nottebaum et al., WACV 2025): attention at a lower resolution, enlarged again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from visattn.adapters.adapter import Adapter, channels_behind
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import convolved, resampled, stencil
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, moved, pixels, shrunk


@ADAPTERS.register("lowformer")
class LowFormerAdapter(Adapter):
    """timm ``LowFormer`` with attention; the head reads an average."""

    family = "lowformer"
    home: ClassVar[str] = "timm.models.lowformer"
    network: ClassVar[str] = "LowFormer"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it contains attention."""
        return is_instance(module, cls.home, cls.network) and any(
            is_instance(part, cls.home, "ConvAttention") for part in module.modules()
        )

    @property
    def lowformer(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    @property
    def num_features(self) -> int | None:
        """Number of channels that are pooled, behind the first convolution of the head."""
        return channels_behind(self.widening) or super().num_features

    @property
    def widening(self) -> nn.Module:
        """What stands between the last stage and the pool; nothing once a user removed it."""
        found: nn.Module = self.lowformer.in_conv
        return found

    def chain(self, size: Size) -> Chain:
        """Return strided convolutions and attention from the first attention on."""
        layout = shrunk(pixels(size), self.lowformer.stem)
        steps: list[Step] = []
        for number, stage in enumerate(self.lowformer.stages):
            for index, block in enumerate(stage):
                found = list(self.attentions(f"stages.{number}.{index}", block))
                if found:
                    steps.extend(
                        Step.block(layout, low_resolution(name, part, layout))
                        for name, part in found
                    )
                    continue
                steps.extend(moved(layout, block)[0] if steps else ())
                layout = shrunk(layout, block)
        readout = pooled_readout(layout, self.pool_type)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def attentions(self, name: str, block: nn.Module) -> Iterator[tuple[str, Any]]:
        """Yield the attention inside a block, with its name."""
        for part_name, part in block.named_modules(prefix=name):
            if is_instance(part, self.home, "ConvAttention"):
                yield part_name, part

    @property
    def pool_type(self) -> str:
        """How the head pools."""
        return str(self.lowformer.global_pool.pool_type)

    def cam_site(self) -> Site:
        """Return the feature map that is pooled."""
        return Site("global_pool", "input", "channels_first")


def low_resolution(name: str, attention: Any, layout: TokenLayout) -> Placement:
    """Place attention among tokens of a strided convolution, enlarged again by its counterpart."""
    if attention.att_stride == 1:
        return Placement.whole(name, layout)
    tokens, coarse = lowered(attention, layout.grid)
    queries, _ = resampled(
        coarse, lambda planes: enlarged(attention.upsampling, planes, layout.grid)
    )
    return Placement(name, queries, tokens, origin=tokens)


def lowered(attention: Any, grid: Size) -> tuple[Reindex, Size]:
    """Return the shares of the strided convolution; small kernels tile a map padded to fit them."""
    conv, stride = attention.conv_proj.conv, attention.att_stride
    if not getattr(attention, "small_kernels", False):
        return convolved(grid, conv)
    over = (-grid.height % stride, -grid.width % stride)
    return stencil(grid, torch.ones(conv.kernel_size), (stride, stride), after=over)


def enlarged(upsampling: Any, planes: torch.Tensor, grid: Size) -> torch.Tensor:
    """Enlarge planes (batch, 1, row, col) as the model does, by magnitudes, and crop to ``grid``.

    A transposed convolution counts with the sum of its absolute weights over channels.
    """
    for layer in upsampling.modules():
        if isinstance(layer, nn.Upsample):
            planes = functional.interpolate(
                planes, scale_factor=layer.scale_factor, mode=layer.mode
            )
        elif isinstance(layer, nn.ConvTranspose2d):
            planes = spread(planes, layer)
    return planes[..., : grid.height, : grid.width]


def spread(planes: torch.Tensor, conv: Any) -> torch.Tensor:
    """Return planes behind a transposed convolution with one kernel of summed magnitudes."""
    kernel = torch.ones(conv.kernel_size)
    if not conv.weight.is_meta:
        kernel = conv.weight.detach().abs().sum(dim=(0, 1)).float().cpu()
    return functional.conv_transpose2d(
        planes, kernel[None, None], stride=conv.stride, padding=conv.padding
    )
