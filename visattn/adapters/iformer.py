"""iFormer (Zheng, ICLR 2025): convolutions, then single-head attention with a modulating gate."""

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
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, moved, pixels, shrunk
from visattn.tokens.windows import cut, padded, token_plane

HOME = "timm.models.iformer"


@ADAPTERS.register("iformer")
class IFormerAdapter(Adapter):
    """timm ``IFormer`` with attention in at least one stage; the head reads an average."""

    family = "iformer"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it contains attention."""
        return is_instance(module, HOME, "IFormer") and any(
            is_instance(part, HOME, "SHMA") for part in module.modules()
        )

    @property
    def iformer(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return strided convolutions and attention from the first attention on."""
        layout = shrunk(pixels(size), self.iformer.stem)
        steps: list[Step] = []
        for number, stage in enumerate(self.iformer.stages):
            steps.extend(moved(layout, stage.downsample)[0] if steps else ())
            layout = shrunk(layout, stage.downsample)
            for index, block in enumerate(stage.blocks):
                if is_instance(block, HOME, "SHMABlock"):
                    name = f"stages.{number}.blocks.{index}.mixer.module"
                    steps.append(Step.block(layout, modulated(name, block.mixer.module, layout)))
        readout = pooled_readout(layout, self.iformer.global_pool)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map of the last stage, which the head averages."""
        return Site(f"stages.{len(self.iformer.stages) - 1}", "output", "channels_first")


def modulated(name: str, attention: Any, layout: TokenLayout) -> Placement:
    """Place attention over the whole map, or in windows of a map padded to whole windows."""
    side = attention.window_size
    if not side:
        return Placement.whole(name, layout)
    window = Size(side, side)
    return Placement.windowed(
        name, cut(padded(token_plane(layout.grid), window), window), layout.tokens
    )
