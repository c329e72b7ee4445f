"""Maps of one photo on one grid, so that their cells can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from visattn.errors import ConfigError
from visattn.geometry import Affine, Array, Geometry
from visattn.images import Size
from visattn.saliency import SaliencyMap

Indices = npt.NDArray[np.intp]


def aligned(maps: Sequence[SaliencyMap]) -> tuple[list[Array], Geometry]:
    """Return the values of maps of one photo on one grid, float32 (rows, cols) each, and the grid.

    The grid is the finest among the maps, cut to the cells that all of them saw. A map on another
    grid is sampled in the coordinates of the photo: bilinear, or the mean of the cells under a
    larger one. Raises `ConfigError` for maps of different photos, and for maps that saw no cell in
    common.
    """
    require_one_photo(maps)
    finest = max((each.geometry for each in maps), key=_density)
    values = [on_grid(each, finest) for each in maps]
    seen = np.logical_and.reduce([~np.isnan(each) for each in values])
    rows, cols = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        names = " and ".join(f"{each.method} of {each.model}" for each in maps)
        raise ConfigError(f"{names} saw no part of the photo in common: nothing can be compared.")
    window = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    return [each[window] for each in values], _cut(finest, rows, cols)


def on_grid(saliency: SaliencyMap, geometry: Geometry) -> Array:
    """Return a map's values at the cells of another grid on the same photo, NaN where unseen.

    Cells that are NaN in a map count as unseen.
    """
    if saliency.geometry == geometry:
        return saliency.grid
    own = saliency.geometry
    to_cells = own.input_to_original.then(geometry.grid_to_original.inverse())
    return replace(own, original=geometry.grid, input_to_original=to_cells).on_original(
        saliency.grid
    )


def _density(geometry: Geometry) -> float:
    """Return cells per photo pixel."""
    return 1.0 / float(np.prod(geometry.grid_to_original.scale))


def _cut(geometry: Geometry, rows: Indices, cols: Indices) -> Geometry:
    size = Size(len(rows), len(cols))
    if size == geometry.grid:
        return geometry
    first = geometry.grid_to_input(float(rows[0]), float(cols[0]))
    return replace(geometry, grid=size, grid_to_input=Affine(geometry.grid_to_input.scale, first))


def require_one_photo(maps: Sequence[SaliencyMap]) -> None:
    """Raise `ConfigError` for maps of different photos, told by their sizes and hashes."""
    sizes = list(dict.fromkeys(each.geometry.original for each in maps))
    hashes = {each.provenance.get("image", {}).get("sha256") for each in maps} - {None}
    if len(sizes) > 1 or len(hashes) > 1:
        shapes = " and ".join(f"{size.width} x {size.height}" for size in sizes)
        what = f"photos of {shapes} pixels" if len(sizes) > 1 else f"{len(hashes)} different photos"
        raise ConfigError(f"Only maps of one photo can be compared; these are of {what}.")
