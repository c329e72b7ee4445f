"""CSATv2: frequencies of 8 x 8 pixels as tokens, convolutions with a gate, then transformers.

The attention that timm writes into the spatial gates of its convolution blocks has one query and
one key per image, so it runs across the batch; as its input is normalised over its only channel,
all images hold the same value there and none learns of another.
"""

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
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, moved, shares, shrunk

HOME = "timm.models.csatv2"


@ADAPTERS.register("csatv2")
class CSATv2Adapter(Adapter):
    """timm ``CSATv2`` with transformer blocks; the head reads an average."""

    family = "csatv2"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it contains transformer blocks."""
        return is_instance(module, HOME, "CSATv2") and any(
            is_instance(part, HOME, "TransformerBlock") for part in module.modules()
        )

    @property
    def csat(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return strided convolutions and attention from the first attention on."""
        side = self.csat.stem_dct.k
        grid = Size(size.height // side, size.width // side)
        layout = TokenLayout((), grid, (float(side), float(side)))
        steps: list[Step] = []
        for number, stage in enumerate(self.csat.stages):
            for index, block in enumerate(stage):
                if is_instance(block, HOME, "TransformerBlock"):
                    steps.append(pooled_attention(f"stages.{number}.{index}.attn", block, layout))
                    layout = shrunk(layout, block.pool1)
                    continue
                steps.extend(moved(layout, block)[0] if steps else ())
                layout = shrunk(layout, block)
        readout = pooled_readout(layout, self.csat.head.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")


def pooled_attention(name: str, block: Any, layout: TokenLayout) -> Step:
    """Return a transformer block; where it downsamples, residual path and tokens are pooled."""
    if not block.downsample:
        return Step.attention(layout, name)
    skip, tokens = shares(layout.grid, block.pool1), shares(layout.grid, block.pool2)
    coarse = Reindex.identity(skip.size[0])
    return Step(layout, (Placement(name, coarse, tokens, origin=tokens),), skip)
