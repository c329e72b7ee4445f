"""Mosaics of photos and the grid pointing game: does the map of one tile's class stay in it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from visattn.errors import ConfigError
from visattn.saliency import SaliencyMap

EMPTY = 1e-7


@dataclass(frozen=True)
class Mosaic:
    """Distinct photos on a square of ``side`` x ``side`` tiles.

    Attributes:
        photos: index of the photo of each tile, row by row.
        side: tiles in a row.
    """

    photos: tuple[int, ...]
    side: int

    def compose(self, tiles: torch.Tensor) -> torch.Tensor:
        """Return the input (channel, row, col) of tiles (photo, channel, row, col)."""
        rows = [
            torch.cat(list(tiles[list(self.photos[start : start + self.side])]), dim=-1)
            for start in range(0, len(self.photos), self.side)
        ]
        return torch.cat(rows, dim=-2)


def mosaics(photos: int, side: int = 2, seed: int = 0, limit: int | None = None) -> list[Mosaic]:
    """Return every choice of ``side * side`` of the photos, each in one random order.

    With ``limit``, that many of them, drawn at random. Raises `ConfigError` for too few photos.
    """
    count = side * side
    if photos < count:
        raise ConfigError(f"{photos} photos do not fill a mosaic of {side} x {side} tiles.")
    random = np.random.default_rng(seed)
    chosen = [tuple(map(int, random.permutation(c))) for c in combinations(range(photos), count)]
    order = random.permutation(len(chosen))[:limit]
    return [Mosaic(chosen[place], side) for place in sorted(order)]


def grid_pointing(found: SaliencyMap, tile: int, side: int) -> float:
    """Return the share of a map's positive mass that lies in a tile, counted row by row.

    ``sum_tile m^+ / sum m^+`` with m the raw map, bilinear on the model's input; 0 where the total
    is at most 1e-7 of what a map of ones has or the map is not finite. A map that is even scores
    ``1 / side^2``. In 0..1, more is better; the score rises when a map is raised to a power.

    Boehle, Fritz & Schiele, CVPR 2021; Rao, Boehle & Schiele, CVPR 2022.
    """
    positive = np.clip(found.on_input().astype(np.float64), 0, None)
    peak = positive.max(initial=0.0)
    if not np.isfinite(positive).all() or peak <= 0:
        return 0.0
    positive /= peak
    row, col = divmod(tile, side)
    height, width = (extent // side for extent in positive.shape)
    inside = positive[row * height : (row + 1) * height, col * width : (col + 1) * width]
    total = positive.sum()
    return float(inside.sum() / total) if total > EMPTY * positive.size else 0.0


def pointed(found: SaliencyMap, tile: int, side: int) -> float:
    """Return 1 where the largest value lies in the tile, 0 elsewhere; ties count by their share.

    Zhang et al., ECCV 2016, with cells of the map's own grid.
    """
    cells = found.geometry.grid
    if found.no_signal:
        return 1 / side**2
    rows, cols = np.nonzero(found.grid == found.grid.max())
    hits = [
        divmod(tile, side) == (row * side // cells.height, col * side // cells.width)
        for row, col in zip(rows.tolist(), cols.tolist(), strict=True)
    ]
    return float(np.mean(hits))


def tiles_of(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return tiles (photo, channel, row, col) of one size; raises `ConfigError` for several."""
    sizes = {tuple(tensor.shape) for tensor in tensors}
    if len(sizes) > 1:
        raise ConfigError(f"Tiles have different sizes {sorted(sizes)}; use one image_size.")
    return torch.stack(list(tensors))
