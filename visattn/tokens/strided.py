"""Strided layers: what convolutions and pools with a stride leave of a grid of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from visattn.images import Size
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import convolved, stencil
from visattn.tokens.step import Step

POINTWISE = "convolutions of stride 1 between attention blocks are walked as the identity"


def pixels(size: Size) -> TokenLayout:
    """Return the layout of the model's input itself, one pixel a token."""
    return TokenLayout((), size, (1.0, 1.0))


def strided_layers(part: nn.Module) -> Iterator[nn.Module]:
    """Yield the convolutions and pools inside ``part`` that have a stride, in order."""
    for layer in part.modules():
        if isinstance(layer, (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)) and max(strides(layer)) > 1:
            yield layer


def shrunk(layout: TokenLayout, *parts: nn.Module) -> TokenLayout:
    """Return the layout behind ``parts``, whose strided layers run one after the other.

    A cell is one stride high and wide, although overlapping kernels read beyond it.
    """
    for part in parts:
        for layer in strided_layers(part):
            rows, cols = (_extent(layer, layout.grid[axis], axis) for axis in (0, 1))
            high, wide = (
                cell * step for cell, step in zip(layout.cell, strides(layer), strict=True)
            )
            layout = TokenLayout(layout.prefix, Size(rows, cols), (high, wide))
    return layout


def shares(grid: Size, layer: nn.Module) -> Reindex:
    """Return the shares (cell behind ``layer``, cell of ``grid``), a rest under ceil_mode too."""
    if not getattr(layer, "ceil_mode", False):
        return convolved(grid, layer)[0]
    pool: Any = layer
    kernel, stride, pad = _pair(pool.kernel_size), strides(pool), _pair(pool.padding)
    rows, cols = (
        (_extent(pool, grid[axis], axis) - 1) * stride[axis] + kernel[axis] - grid[axis] - pad[axis]
        for axis in (0, 1)
    )
    return stencil(grid, torch.ones(kernel), stride, pad, (rows, cols))[0]


def mean_of(*ways: Reindex) -> Reindex:
    """Return the mean of the shares of parallel ways between the same tokens."""
    (after, before) = ways[0].size
    rows, columns, parts = (
        torch.cat([getattr(way, name) for way in ways]) for name in ("rows", "columns", "shares")
    )
    pairs, place = torch.unique(rows * before + columns, return_inverse=True)
    summed = torch.zeros(len(pairs), dtype=torch.float64).index_add_(0, place, parts / len(ways))
    return Reindex(pairs // before, pairs % before, summed, (after, before))


def halving(block: nn.Module, residual: nn.Module | None, grid: Size) -> Reindex:
    """Return the shares of a strided block: half by its residual path, half by its branch.

    A residual path that is a strided 1 x 1 convolution alone would leave out three cells of four.
    """
    own = [] if residual is None else list(strided_layers(residual))[:1]
    branch = [layer for layer in strided_layers(block) if layer not in own][:1]
    return mean_of(*(shares(grid, layer) for layer in (*own, *branch)))


def strided(layout: TokenLayout, layer: nn.Module) -> tuple[Step, TokenLayout]:
    """Return the step through one layer that covers the grid, and the layout behind it.

    Prefix tokens pass it by.
    """
    skip = shares(layout.grid, layer).behind(len(layout.prefix))
    return Step(layout, (), skip), shrunk(layout, layer)


def moved(layout: TokenLayout, *parts: nn.Module) -> tuple[tuple[Step, ...], TokenLayout]:
    """Return one step for each strided layer inside ``parts``, and the layout behind them."""
    steps = []
    for part in parts:
        for layer in strided_layers(part):
            step, layout = strided(layout, layer)
            steps.append(step)
    return tuple(steps), layout


def conv_layout(conv: nn.Module, size: Size, prefix: tuple[str, ...] = ()) -> TokenLayout:
    """Return the layout of patches made by one convolution on an input ``size``."""
    found = shrunk(pixels(size), conv)
    return TokenLayout(prefix, found.grid, found.cell)


def strides(layer: Any) -> tuple[int, int]:
    """Return a layer's stride along rows and columns."""
    return _pair(layer.stride or layer.kernel_size)


def _extent(layer: Any, extent: int, axis: int) -> int:
    stride, kernel = strides(layer)[axis], _pair(layer.kernel_size)[axis]
    if layer.padding == "same" or type(layer).__name__.endswith("Same"):
        return -(-extent // stride)
    padding = 0 if layer.padding == "valid" else _pair(layer.padding)[axis]
    room = extent + 2 * padding - _pair(getattr(layer, "dilation", 1))[axis] * (kernel - 1) - 1
    return (-(-room // stride) if getattr(layer, "ceil_mode", False) else room // stride) + 1


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, (tuple, list)) else (value, value)
