"""GC ViT (Hatamizadeh et al., ICML 2023): windows whose queries are their own or global.

Every second block takes its queries from the whole feature map, pooled to the size of one window:
all windows ask the same global queries of their own keys.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.partition import misfit
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, moved, pixels, shrunk
from visattn.tokens.windows import cut, token_plane


@ADAPTERS.register("gcvit")
class GlobalContextVitAdapter(Adapter):
    """timm ``GlobalContextVit``; the head reads an average."""

    family = "gcvit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.gcvit", "GlobalContextVit")

    @property
    def gcvit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain | Refusal:
        """Return windows with own and with global queries, strided convolutions between stages."""
        layout = shrunk(pixels(size), self.gcvit.stem)
        steps: list[Step] = []
        for number, stage in enumerate(self.gcvit.stages):
            if number:
                moves, layout = moved(layout, stage.downsample)
                steps.extend(moves)
            pooled = global_queries(layout, stage.global_block)
            for index, block in enumerate(stage.blocks):
                name = f"stages.{number}.blocks.{index}.attn"
                refusal = misfit(name, layout, Size(*block.window_size))
                if refusal is not None:
                    return refusal
                steps.append(Step.block(layout, window_attention(name, block, layout, pooled)))
        readout = pooled_readout(layout, self.gcvit.head.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")


def global_queries(layout: TokenLayout, block: Any) -> Reindex:
    """Return which tokens each global query was pooled from: (window slot, token)."""
    steps, pooled = moved(layout, block)
    shares = torch.eye(pooled.tokens, dtype=torch.float64)
    for step in reversed(steps):
        shares = shares if step.skip is None else step.skip(shares)
    return Reindex.dense(shares)


def window_attention(name: str, block: Any, layout: TokenLayout, pooled: Reindex) -> Placement:
    """Return attention in windows; global queries have their origin all over the feature map."""
    index = cut(token_plane(layout.grid), Size(*block.window_size))
    placement = Placement.windowed(name, index, layout.tokens)
    if not block.attn.use_global:
        return placement
    return replace(placement, origin=repeated(pooled, len(index)))


def repeated(reindex: Reindex, times: int) -> Reindex:
    """Return the matrix stacked ``times`` on top of itself."""
    rows, tokens = reindex.size
    starts = torch.arange(times)[:, None] * rows
    return Reindex(
        (starts + reindex.rows).reshape(-1),
        reindex.columns.repeat(times),
        reindex.shares.repeat(times),
        (times * rows, tokens),
    )
