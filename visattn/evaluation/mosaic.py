"""Mosaics of photos and the grid pointing game: does the map of one tile's class stay in it?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from visattn.errors import ConfigError
from visattn.saliency import SaliencyMap

EMPTY = 1e-7
REPEATS = 1000  # draws in a row that bring nothing new before there is taken to be nothing new


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


def drawn(
    classes: Sequence[Hashable], side: int = 2, seed: int = 0, limit: int = 100, orders: int = 1
) -> Iterator[Mosaic]:
    """Yield mosaics of photos of distinct classes, drawn at random.

    No choice of photos comes in more than ``orders`` orders, none in the same order twice.
    ``classes`` (photo,) says what each photo shows. Classes are drawn evenly, then a photo of each.
    Fewer than ``limit`` come where there are no more choices. Raises `ConfigError` for fewer
    classes than tiles.
    """
    photos: dict[Hashable, list[int]] = {}
    for place, each in enumerate(classes):
        photos.setdefault(each, []).append(place)
    if len(photos) < side * side:
        raise ConfigError(f"{len(photos)} classes do not fill a mosaic of {side} x {side} tiles.")
    own, random = list(photos.values()), np.random.default_rng(seed)
    choices, arranged = Counter[frozenset[int]](), set[tuple[int, ...]]()
    repeats = 0
    while len(arranged) < limit and repeats < REPEATS:
        some = random.permutation(len(own))[: side * side]
        chosen = tuple(int(random.choice(own[place])) for place in some)
        choice = frozenset(chosen)
        repeats += 1
        if choices[choice] < orders and chosen not in arranged:
            repeats = 0
            choices[choice] += 1
            arranged.add(chosen)
            yield Mosaic(chosen, side)


def grid_pointing(
    found: SaliencyMap, tile: int, side: int, smooth: int = 0, interpolation: str = "bilinear"
) -> float:
    """Return the share of a map's positive mass that lies in a tile, counted row by row.

    ``sum_tile m^+ / sum m^+`` with m the raw map, bilinear on the model's input (``nearest`` leaves
    cells as they are, so that none at a tile's edge reaches over it), zero where its grid does not
    reach; 0 where the total is at most 1e-7 of what a map of ones has or the map is
    not finite. With ``smooth``, an odd number K of pixels, m is first convolved with a Gaussian of
    K x K pixels and standard deviation K / 4. A map that is even scores ``1 / side^2``. In 0..1,
    more is better; the score rises when a map is raised to a power. Raises `ConfigError` for an
    input that is not cut into whole tiles.

    Boehle, Fritz & Schiele, CVPR 2021; Rao, Boehle & Schiele, CVPR 2022.
    """
    if not np.isfinite(found.grid).all():
        return 0.0
    values = np.nan_to_num(found.on_input(interpolation).astype(np.float64))
    if smooth:
        values = gaussian_filter(values, smooth / 4, mode="constant", radius=smooth // 2)
    positive = np.clip(values, 0, None)
    peak = positive.max(initial=0.0)
    if peak <= 0:
        return 0.0
    positive /= peak
    cell = cell_of(positive.shape, tile, side)
    inside = float(positive[cell].sum())
    # Added up apart, so that a map that lies in the tile alone has exactly 1.
    positive[cell] = 0
    total = inside + float(positive.sum())
    return inside / total if total > EMPTY * positive.size else 0.0


def cell_of(shape: tuple[int, ...], tile: int, side: int) -> tuple[slice, slice]:
    """Return rows and columns of a tile; raises `ConfigError` where tiles are not whole."""
    if any(extent % side for extent in shape):
        raise ConfigError(f"{shape[0]} x {shape[1]} pixels are not {side} x {side} equal tiles.")
    height, width = (extent // side for extent in shape)
    row, col = divmod(tile, side)
    return (
        slice(row * height, (row + 1) * height),
        slice(col * width, (col + 1) * width),
    )


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
