"""torchvision's Swin transformers: v1 (Liu et al., ICCV 2021) and v2 (CVPR 2022)."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter, outputs_of
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.swin import patch_merging
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import conv_layout
from visattn.tokens.windows import cut, padded, shifted, token_plane

HOME = "torchvision.models.swin_transformer"


@ADAPTERS.register("torchvision_swin")
class TorchvisionSwinAdapter(Adapter):
    """torchvision ``SwinTransformer``: stages and patch mergings in one sequence of features."""

    family = "torchvision_swin"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match torchvision's class, which serves both versions."""
        return is_instance(module, HOME, "SwinTransformer")

    @property
    def swin(self) -> Any:
        """The module, whose attributes torchvision defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return shifted windows and patch merging; the head reads an average."""
        layout = conv_layout(self.swin.features[0][0], size)
        steps: list[Step] = []
        for number, part in enumerate(self.swin.features[1:], start=1):
            if is_instance(part, HOME, "PatchMerging", "PatchMergingV2"):
                merging, layout = patch_merging(layout)
                steps.append(merging)
                continue
            for index, block in enumerate(part):
                name = f"features.{number}.{index}.attn"
                steps.append(Step.block(layout, windows(name, block.attn, layout)))
        return Chain(tuple(steps), layout, pooled_readout(layout, "avg"))

    def cam_site(self) -> Site:
        """Return the feature map that enters the global pool."""
        return Site("avgpool", "input", "channels_first")

    @property
    def num_classes(self) -> int | None:
        """Number of outputs of the head, which a user may have replaced; 0 without one."""
        return outputs_of(self.swin.head)

    @property
    def num_features(self) -> int | None:
        """Number of channels behind the last stage."""
        return int(self.swin.norm.normalized_shape[0])


def windows(name: str, attention: Any, layout: TokenLayout) -> Placement:
    """Place tokens as torchvision does: pad, shift where there is more than one window, cut."""
    window = Size(*attention.window_size)
    plane = padded(token_plane(layout.grid), window)
    rows, cols = (
        0 if side >= extent else shift
        for side, extent, shift in zip(window, plane.shape, attention.shift_size, strict=True)
    )
    return Placement.windowed(name, cut(shifted(plane, (rows, cols)), window), layout.tokens)
