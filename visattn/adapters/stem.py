"""Convolutional stems: the grid that a strided convolution makes of the input's pixels."""

from __future__ import annotations

from typing import Any

from visattn.adapters.layout import TokenLayout
from visattn.images import Size


def stem_layout(conv: Any, size: Size, prefix: tuple[str, ...] = ()) -> TokenLayout:
    """Return the layout behind a ``Conv2d`` on an input ``size``, from its own attributes.

    A cell is one stride high and wide, although overlapping kernels read beyond it.
    """
    axes = zip(size, conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True)
    rows, cols = (
        (extent + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for extent, kernel, stride, padding, dilation in axes
    )
    height, width = conv.stride
    return TokenLayout(prefix, Size(rows, cols), (float(height), float(width)))
