"""VOLO (Yuan et al., TPAMI 2022): outlook attention, then global and class attention.

An outlooker computes the weights of a window from its centre alone, without keys, and adds up what
overlapping windows give a token. The class token joins behind the patch blocks; it stands in the
stream from the start, so that one prefix serves the whole walk.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.cait import class_attention, patch_attention
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import pixels, shares, shrunk
from visattn.tokens.windows import token_plane

HOME = "timm.models.volo"
AUXILIARY = Refusal(
    "the head adds to its scores half the maximum over patch tokens of an auxiliary classifier "
    "(aux_head), so no fixed row of tokens is what it reads; choose one with query='cls', 'mean' "
    "or (row, col)"
)


@ADAPTERS.register("volo")
class VoloAdapter(Adapter):
    """timm ``VOLO``, with and without class attention."""

    family = "volo"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, HOME, "VOLO")

    @property
    def volo(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return outlookers, a strided convolution, transformers and class attention."""
        layout = self.stem(size)
        steps: list[Step] = []
        for number, stage in enumerate(self.volo.network):
            if is_instance(stage, HOME, "Downsample"):
                merging, layout = downsampled(layout, stage.proj)
                steps.append(merging)
                continue
            for index, block in enumerate(stage):
                name = f"network.{number}.{index}.attn"
                outlooks = is_instance(block, HOME, "Outlooker")
                steps.append(
                    outlook(name, block.attn, layout) if outlooks else patch_attention(name, layout)
                )
        count = len(self.volo.post_network or ())
        steps += [class_attention(f"post_network.{index}.attn", layout) for index in range(count)]
        return Chain(tuple(steps), layout, self.readout(layout))

    def stem(self, size: Size) -> TokenLayout:
        """Return the layout behind the convolutions of the patch embedding."""
        prefix = () if self.volo.post_network is None else ("class",)
        found = shrunk(pixels(size), self.volo.patch_embed)
        return TokenLayout(prefix, found.grid, found.cell)

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return which tokens the head reads; an average takes the class token in."""
        if self.volo.aux_head is not None and self.volo.global_pool:
            return AUXILIARY
        if self.volo.global_pool == "token" and not layout.prefix:
            return Readout("first patch token", layout.one(0))
        return pooled_readout(layout, self.volo.global_pool, with_prefix=True)

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last class attention, or the average.

        With an auxiliary classifier, the input of the last block: from there patch tokens reach
        class attention and auxiliary classifier alike.
        """
        last = f"post_network.{len(self.volo.post_network or ()) - 1}"
        if self.volo.global_pool != "token" or not self.volo.post_network:
            return Site("norm", "output", "tokens")
        if self.volo.aux_head is not None:
            return Site(last, "input", "tokens")
        return Site(f"{last}.norm1", "output", "tokens")


def outlook(name: str, attention: Any, layout: TokenLayout) -> Step:
    """Return attention inside the overlapping windows that the module itself unfolds.

    A token receives from each window that it lies in an equal share.
    """
    plane = token_plane(layout.grid) + len(layout.prefix)
    slots = attention.unfold((plane + 1).double()[None, None])[0].T.long() - 1
    keys = Reindex.gather(slots, layout.tokens)
    queries = keys.transposed().normalised()
    return Step.block(layout, Placement(name, queries, keys, len(slots), "bhw"))


def downsampled(layout: TokenLayout, conv: Any) -> tuple[Step, TokenLayout]:
    """Return the strided convolution between stages; the class token waits."""
    after = shrunk(layout, conv)
    return Step(layout, (), shares(layout.grid, conv).behind(len(layout.prefix))), after
