"""Resampling: which cells of a finer grid a strided convolution, pooling or resizing reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from visattn.images import Size
from visattn.tokens.reindex import Reindex

Pair = tuple[int, int]


def stencil(
    grid: Size,
    kernel: torch.Tensor,
    stride: Pair,
    before: Pair = (0, 0),
    after: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> tuple[Reindex, Size]:
    """Return the shares (cell out, cell in) of a sliding kernel, and the grid that it produces.

    ``kernel`` (row, col) >= 0 says how much each offset counts; ``before`` and ``after`` are the
    zero padding at top and left, and at bottom and right. Shares of one output cell sum to 1 over
    the cells inside the grid: padding has no place in the image and gets nothing.
    """
    rows, high = _reads(grid.height, kernel.shape[0], stride[0], before[0], after[0], dilation[0])
    cols, wide = _reads(grid.width, kernel.shape[1], stride[1], before[1], after[1], dilation[1])
    source_row = rows[:, None, :, None].expand(high, wide, *kernel.shape)
    source_col = cols[None, :, None, :].expand(high, wide, *kernel.shape)
    inside = (source_row >= 0) & (source_col >= 0)
    out = torch.arange(high * wide).reshape(high, wide, 1, 1).expand_as(inside)
    shares = kernel.double().expand(high, wide, *kernel.shape)[inside]
    into = (source_row * grid.width + source_col)[inside]
    found = Reindex(out[inside], into, shares, (high * wide, grid.height * grid.width))
    return found.normalised(), Size(high, wide)


def convolved(grid: Size, conv: nn.Module) -> tuple[Reindex, Size]:
    """Return the shares of a strided convolution or pooling layer, from its own attributes.

    Windows that do not overlap give every cell the same share; overlapping convolutions share by
    the sum of absolute kernel weights over channels; overlapping pools equally.
    """
    layer: Any = conv
    size, stride = _pair(layer.kernel_size), _pair(layer.stride or layer.kernel_size)
    dilation = _pair(getattr(layer, "dilation", 1))
    weight = getattr(layer, "weight", None)
    kernel = torch.ones(size)
    if weight is not None and size != stride and not weight.is_meta:
        kernel = weight.detach().double().abs().sum(dim=(0, 1)).cpu()
    pads = [
        _padding(layer, extent, size[i], stride[i], dilation[i], i) for i, extent in enumerate(grid)
    ]
    before, after = (pads[0][0], pads[1][0]), (pads[0][1], pads[1][1])
    return stencil(grid, kernel, stride, before, after, dilation)


def pooled(grid: Size, size: int | Pair, stride: int | Pair | None = None) -> tuple[Reindex, Size]:
    """Return the equal shares of pooling without padding; a rest at bottom or right is dropped."""
    return stencil(grid, torch.ones(_pair(size)), _pair(stride or size))


def resampled(grid: Size, resize: Callable[[torch.Tensor], torch.Tensor]) -> tuple[Reindex, Size]:
    """Return the shares of any linear ``resize`` (batch, 1, row, col) -> (batch, 1, row, col).

    It is run on one plane per cell, so it suits coarse grids: adaptive pooling, interpolation.
    Negative lobes of a bicubic kernel count with their magnitude.
    """
    cells = grid.height * grid.width
    planes = resize(torch.eye(cells).reshape(cells, 1, *grid))
    matrix = planes.flatten(1).T.abs()
    return Reindex.dense(matrix, normalised=True), Size(*map(int, planes.shape[-2:]))


def interpolated(grid: Size, into: Size, mode: str = "nearest") -> Reindex:
    """Return the shares (cell of ``into``, cell of ``grid``) of torch's interpolation."""
    return resampled(grid, lambda p: functional.interpolate(p, size=tuple(into), mode=mode))[0]


def _reads(
    extent: int, kernel: int, stride: int, before: int, after: int, dilation: int
) -> tuple[torch.Tensor, int]:
    """Return the index read at (output, offset), -1 in the padding, and the number of outputs."""
    count = (extent + before + after - dilation * (kernel - 1) - 1) // stride + 1
    index = torch.arange(count)[:, None] * stride + torch.arange(kernel)[None] * dilation - before
    return index.where((index >= 0) & (index < extent), -1), count


def _padding(layer: Any, extent: int, kernel: int, stride: int, dilation: int, axis: int) -> Pair:
    padding = getattr(layer, "padding", 0)
    if padding == "same" or type(layer).__name__.endswith("Same"):
        total = max((-(-extent // stride) - 1) * stride + dilation * (kernel - 1) + 1 - extent, 0)
        return total // 2, total - total // 2
    each = 0 if padding == "valid" else _pair(padding)[axis]
    return each, each


def _pair(value: Any) -> Pair:
    return (int(value[0]), int(value[1])) if isinstance(value, (tuple, list)) else (value, value)
