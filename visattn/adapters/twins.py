"""Twins (Chu et al., NeurIPS 2021): local windows and global attention to thinned-out keys.

Twins-PCPVT attends to thinned-out keys in every block, Twins-SVT in every second one.
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
from visattn.tokens.strided import POINTWISE, moved, pixels, shares, shrunk
from visattn.tokens.windows import cut, padded, token_plane

HOME = "timm.models.twins"


@ADAPTERS.register("twins")
class TwinsAdapter(Adapter):
    """timm ``Twins``; the head reads an average."""

    family = "twins"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, HOME, "Twins")

    @property
    def twins(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return patch embeddings and blocks, stage by stage."""
        layout = shrunk(pixels(size), self.twins.patch_embeds[0])
        steps: list[Step] = []
        for number, blocks in enumerate(self.twins.blocks):
            if number:
                moves, layout = moved(layout, self.twins.patch_embeds[number])
                steps.extend(moves)
            for index, block in enumerate(blocks):
                name = f"blocks.{number}.{index}.attn"
                local = is_instance(block.attn, HOME, "LocallyGroupedAttn")
                place = local_windows if local else thinned_keys
                steps.append(Step.block(layout, place(name, block.attn, layout)))
        readout = pooled_readout(layout, self.twins.global_pool)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the tokens that enter the head's average."""
        return Site("norm", "output", "tokens")


def local_windows(name: str, attention: Any, layout: TokenLayout) -> Placement:
    """Return attention in windows, the feature map padded at bottom and right."""
    window = Size(attention.ws, attention.ws)
    plane = padded(token_plane(layout.grid), window)
    return Placement.windowed(name, cut(plane, window), layout.tokens)


def thinned_keys(name: str, attention: Any, layout: TokenLayout) -> Placement:
    """Return attention of every token to keys that a strided convolution ``sr`` left, if any."""
    every = Reindex.identity(layout.tokens)
    keys = every if attention.sr is None else shares(layout.grid, attention.sr)
    return Placement(name, every, keys)
