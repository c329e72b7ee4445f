"""CaiT (Touvron et al., ICCV 2021): talking heads over patches, then class attention.

The class token joins behind the patch blocks. It stands in the stream from the start, so that one
layout serves the whole walk; blocks it has not reached leave it alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.patches import patch_layout
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import TALKING, Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step

UNREAD = "the head averages patch tokens, which class attention leaves as they are"


@ADAPTERS.register("cait")
class CaitAdapter(Adapter):
    """timm ``Cait``."""

    family = "cait"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.cait", "Cait")

    @property
    def cait(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return the patch blocks and the class-attention blocks behind them."""
        prefix = () if self.cait.cls_token is None else ("class",)
        layout = patch_layout(self.cait.patch_embed, size, prefix)
        readout = pooled_readout(layout, self.cait.global_pool)
        ends = [
            f"blocks_token_only.{i}.attn" for i in range(len(self.cait.blocks_token_only or ()))
        ]
        steps = [patch_attention(f"blocks.{i}.attn", layout) for i in range(len(self.cait.blocks))]
        if self.cait.global_pool == "avg":
            unread = dict.fromkeys(ends, UNREAD)
            return Chain(tuple(steps), layout, readout, notes=(TALKING,), aside=unread)
        steps += [class_attention(name, layout) for name in ends]
        return Chain(tuple(steps), layout, readout, notes=(TALKING,))

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last class attention, or the average."""
        blocks = self.cait.blocks_token_only
        if self.cait.global_pool == "avg" or not blocks:
            return Site("norm", "output", "tokens")
        return Site(f"blocks_token_only.{len(blocks) - 1}.norm1", "output", "tokens")


def patch_attention(operation: str, layout: TokenLayout) -> Step:
    """Return a residual block in which only patch tokens attend, to each other."""
    patches = torch.arange(layout.places.start, layout.places.stop)[None]
    return Step.block(layout, Placement.windowed(operation, patches, layout.tokens))


def class_attention(operation: str, layout: TokenLayout) -> Step:
    """Return a residual block in which only the class token attends, to all tokens."""
    query = Reindex.gather(torch.zeros(1, dtype=torch.long), layout.tokens).transposed()
    every = Reindex.identity(layout.tokens)
    return Step.block(layout, Placement(operation, query, every, prefix=len(layout.prefix)))
