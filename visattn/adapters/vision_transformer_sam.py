"""SAM's image encoder (Kirillov et al., ICCV 2023; ViTDet, Li et al., ECCV 2022)."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.hieradet_sam2 import windows
from visattn.adapters.patches import patch_layout
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Placement, Step


@ADAPTERS.register("vision_transformer_sam")
class SamAdapter(Adapter):
    """timm ``VisionTransformerSAM``: windows padded with zeros, global attention in some blocks."""

    family = "vision_transformer_sam"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.vision_transformer_sam", "VisionTransformerSAM")

    @property
    def sam(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return the blocks in order; the head averages the feature map behind the neck."""
        layout = patch_layout(self.sam.patch_embed, size)
        steps = tuple(
            Step.block(layout, padded_windows(f"blocks.{index}.attn", block.window_size, layout))
            for index, block in enumerate(self.sam.blocks)
        )
        pool = self.sam.head.global_pool.pool_type
        return Chain(steps, layout, pooled_readout(layout, pool), notes=self._neck)

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")

    @property
    def _neck(self) -> tuple[str, ...]:
        wide = [part for part in self.sam.neck.modules() if isinstance(part, nn.Conv2d)]
        if not any(max(part.kernel_size) > 1 for part in wide):
            return ()
        return ("the neck's convolutions of stride 1 are walked as the identity",)


def padded_windows(name: str, window: int, layout: TokenLayout) -> Placement:
    """Place a block's tokens in windows of ``window`` x ``window``, or all in one where it is 0.

    timm flattens images and heads into one axis, windows before heads.
    """
    extent = (window, window) if window > 0 else tuple(layout.grid)
    return Placement.windowed(name, windows(layout.grid, extent), layout.tokens)
