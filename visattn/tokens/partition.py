"""Partitions: windows that must cover a feature map exactly, as models without padding demand."""

from __future__ import annotations

from visattn.images import Size
from visattn.tokens.chain import Refusal
from visattn.tokens.layout import TokenLayout


def misfit(name: str, layout: TokenLayout, window: Size) -> Refusal | None:
    """Return why a feature map cannot be cut into whole windows, or None where it can."""
    grid = layout.grid
    if grid.height % window.height == 0 and grid.width % window.width == 0:
        return None
    return Refusal(
        f"{name} cuts a feature map of {grid.height} x {grid.width} tokens into windows of "
        f"{window.height} x {window.width}, which do not fit; use the image_size that the model "
        "was built for"
    )
