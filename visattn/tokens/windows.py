"""Windows: which token of a grid stands in which slot of which window.

A plane (row, col) holds token indices; it is rolled, padded and cut exactly as the model treats its
feature map, and what comes out is the index for `Placement.windowed`.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from visattn.images import Size


def token_plane(grid: Size) -> torch.Tensor:
    """Return the token indices (row, col) of a grid in row-major order."""
    return torch.arange(grid.height * grid.width).reshape(*grid)


def shifted(plane: torch.Tensor, shift: tuple[int, int]) -> torch.Tensor:
    """Roll a plane towards the origin by ``shift`` rows and columns (Swin's cyclic shift)."""
    return plane.roll((-shift[0], -shift[1]), (0, 1))


def padded(plane: torch.Tensor, window: Size) -> torch.Tensor:
    """Pad a plane with -1 at bottom and right to whole windows."""
    rows, cols = plane.shape
    return functional.pad(plane, (0, -cols % window.width, 0, -rows % window.height), value=-1)


def cut(plane: torch.Tensor, window: Size) -> torch.Tensor:
    """Cut a plane into contiguous windows in row-major order: (window, slot)."""
    rows, cols = plane.shape[0] // window.height, plane.shape[1] // window.width
    parts = plane.reshape(rows, window.height, cols, window.width)
    return parts.permute(0, 2, 1, 3).reshape(rows * cols, -1)


def cut_strided(plane: torch.Tensor, window: Size) -> torch.Tensor:
    """Cut a plane into windows of equally spaced tokens: (window, slot).

    Each window spreads over the whole plane: grid attention (Tu et al., MaxViT, ECCV 2022).
    """
    rows, cols = plane.shape[0] // window.height, plane.shape[1] // window.width
    parts = plane.reshape(window.height, rows, window.width, cols)
    return parts.permute(1, 3, 0, 2).reshape(rows * cols, -1)
