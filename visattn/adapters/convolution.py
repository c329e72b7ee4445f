"""Convolutions around attention: stems, strided layers, and those that are walked as nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from visattn.adapters.layout import TokenLayout
from visattn.adapters.resampling import convolved
from visattn.adapters.stem import stem_layout
from visattn.adapters.step import Step
from visattn.images import Size

STRIDE_ONE = "convolutions of stride 1 between attention blocks are walked as the identity"


def layout_behind(layers: Sequence[Any], size: Size) -> TokenLayout:
    """Return the layout behind ``Conv2d`` layers on an input ``size``; a cell is all strides."""
    layout = TokenLayout((), size, (1.0, 1.0))
    for layer in layers:
        found = stem_layout(layer, layout.grid)
        cell = (layout.cell[0] * found.cell[0], layout.cell[1] * found.cell[1])
        layout = TokenLayout((), found.grid, cell)
    return layout


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    """Return all convolutions of a module that runs them one after the other."""
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def strided(layout: TokenLayout, layer: nn.Module) -> tuple[Step, TokenLayout]:
    """Return the step through a strided convolution or pool, and the coarser layout behind it."""
    skip, grid = convolved(layout.grid, layer)
    return Step(layout, (), skip), layout.coarser(grid)


def since_attention(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps from the first attention on: the walk ends on the grid it works on."""
    first = next(place for place, step in enumerate(steps) if step.placements)
    return tuple(steps[first:])
