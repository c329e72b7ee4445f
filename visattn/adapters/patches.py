"""Patch embeddings: the grid that they produce, from their own arithmetic."""

from __future__ import annotations

from typing import Any

from visattn.images import Size
from visattn.tokens.layout import TokenLayout


def patch_layout(embed: Any, size: Size, prefix: tuple[str, ...] = ()) -> TokenLayout:
    """Return the layout behind timm's ``PatchEmbed`` or ``HybridEmbed`` for an input ``size``."""
    if hasattr(embed, "dynamic_feat_size"):
        grid = Size(*map(int, embed.dynamic_feat_size(tuple(size))))
        height, width = embed.feat_ratio(as_scalar=False)
    else:
        height, width = embed.patch_size
        grid = Size(size.height // height, size.width // width)
    return TokenLayout(prefix, grid, (float(height), float(width)))
