"""Random masks of an input, and the patches that they show."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.nn import functional

from visattn.adapters import TokenLayout
from visattn.images import Size

JITTER = 1e-4


def drawn_masks(
    size: Size, cells: int, p: float, random: torch.Generator
) -> Iterator[torch.Tensor]:
    """Yield random masks (row, col) of the input, values 0 to 1, without end.

    One at a time, so that the masks do not depend on how many are used together.
    """
    steps = [math.ceil(side / cells) for side in size]
    enlarged = [(cells + 1) * step for step in steps]
    while True:
        bits = (torch.rand(1, 1, cells, cells, generator=random) < p).float()
        top, left = (int(torch.randint(step, (), generator=random)) for step in steps)
        plane = functional.interpolate(bits, enlarged, mode="bilinear", align_corners=False)
        yield plane[0, 0, top : top + size.height, left : left + size.width]


def highest(
    mask: torch.Tensor, layout: TokenLayout, count: int, random: torch.Generator
) -> torch.Tensor:
    """Return 1 for the ``count`` patches with the highest values at their centres, 0 for others.

    Between neighbours with equal bits masks are flat: ties are broken at random, since any order of
    the patches would favour one side of the image.
    """
    rows, cols = (
        ((torch.arange(layout.grid[axis]) + 0.5) * layout.cell[axis]).long().clamp(max=side - 1)
        for axis, side in enumerate(mask.shape)
    )
    values = mask[rows][:, cols].flatten()
    values = values + JITTER * torch.rand(values.shape, generator=random)
    return torch.zeros_like(values).scatter_(0, values.topk(count).indices, 1.0)


def kept_tokens(masks: torch.Tensor, layout: TokenLayout) -> torch.Tensor:
    """Return the places (mask, kept) of all prefix tokens and the patches where ``masks`` are 1."""
    places = torch.zeros(len(masks), layout.tokens, dtype=torch.bool)
    places[:, layout.places] = masks > 0
    places[:, : len(layout.prefix)] = True
    return places.nonzero()[:, 1].reshape(len(masks), -1)
