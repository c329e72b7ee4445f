"""MaxViT (Tu et al., ECCV 2022), CoAtNet (Dai et al., NeurIPS 2021) and timm's hybrids of both.

Stages of convolutions and transformers: `C` blocks convolve, `T` blocks attend over the whole
feature map, `M` blocks convolve, attend inside windows and then over a grid spread out over the
map, `PM` blocks do both at once, each for half of the channels.
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
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.partition import misfit
from visattn.tokens.step import Placement, Step, since_attention
from visattn.tokens.strided import POINTWISE, moved, pixels, shrunk
from visattn.tokens.windows import cut, cut_strided, token_plane

HOME = "timm.models.maxxvit"
ATTENTION = ("Attention2d", "AttentionCl")


@ADAPTERS.register("maxxvit")
class MaxxVitAdapter(Adapter):
    """timm ``MaxxVit`` with at least one attention block; the head reads an average."""

    family = "maxxvit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where attention is among its blocks."""
        return is_instance(module, HOME, "MaxxVit") and any(
            is_instance(part, HOME, *ATTENTION) for part in module.modules()
        )

    @property
    def maxxvit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the blocks in order, from the feature map of the first attention on."""
        layout = shrunk(pixels(size), self.maxxvit.stem)
        steps: list[Step] = []
        for number, stage in enumerate(self.maxxvit.stages):
            for index, block in enumerate(stage.blocks):
                name = f"stages.{number}.blocks.{index}"
                pool = shortcut_pool(block)
                if pool is not None:
                    moves, layout = moved(layout, pool)
                    steps.extend(moves)
                refusal = unfit(name, block, layout)
                if refusal is not None:
                    return refusal
                steps.extend(attention_steps(name, block, layout))
        readout = pooled_readout(layout, self.maxxvit.head.global_pool.pool_type)
        return Chain(since_attention(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")


def shortcut_pool(block: Any) -> Any | None:
    """Return the pooling on the residual path of a block that halves its feature map, or None.

    The main path strides by a pool, a depthwise or a 1 x 1 convolution around the same centres.
    """
    conv = getattr(block, "conv", block)
    first = conv[0] if isinstance(conv, nn.Sequential) else conv
    return getattr(first.shortcut, "pool", None)


def unfit(name: str, block: Any, layout: TokenLayout) -> Refusal | None:
    """Return why a block's partitions do not fit the feature map, or None."""
    for part in block.modules():
        if hasattr(part, "partition_size"):
            refusal = misfit(name, layout, Size(*part.partition_size))
            if refusal is not None:
                return refusal
    return None


def attention_steps(name: str, block: Any, layout: TokenLayout) -> list[Step]:
    """Return the attention of a block: over the whole map, in windows, over spread grids."""
    if hasattr(block, "attn_grid"):
        pairs = [("attn_block", block.attn_block, cut), ("attn_grid", block.attn_grid, cut_strided)]
        return [
            Step.block(layout, partitioned(f"{name}.{part_name}.attn", layout, part, cutting))
            for part_name, part, cutting in pairs
            if part is not None
        ]
    attention = getattr(block, "attn", None)
    if attention is None:
        return []
    if not hasattr(attention, "attn_grid"):
        return [Step.attention(layout, f"{name}.attn")]
    windows = partitioned(f"{name}.attn.attn_block", layout, attention, cut)
    grids = partitioned(f"{name}.attn.attn_grid", layout, attention, cut_strided)
    return [Step.block(layout, windows, grids)]


def partitioned(name: str, layout: TokenLayout, part: Any, cutting: Any) -> Placement:
    """Return self-attention inside the windows or spread grids of a partition."""
    index = cutting(token_plane(layout.grid), Size(*part.partition_size))
    return Placement.windowed(name, index, layout.tokens)
