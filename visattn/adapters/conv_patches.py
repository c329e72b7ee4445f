"""Patch embeddings that are one convolution."""

from __future__ import annotations

from torch import nn

from visattn.adapters.layout import TokenLayout
from visattn.adapters.strided import pixels, shrunk
from visattn.images import Size


def conv_patches(conv: nn.Module, size: Size, prefix: tuple[str, ...] = ()) -> TokenLayout:
    """Return the layout behind a convolution on an input ``size``, prefix tokens before it.

    A cell is one stride high and wide, although an overlapping kernel reads beyond it.
    """
    found = shrunk(pixels(size), conv)
    return TokenLayout(prefix, found.grid, found.cell)
