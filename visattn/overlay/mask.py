"""The few cells that hold most of a map, as a mask and as a box."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage import measure

from visattn import statistics
from visattn.geometry import Array, Box
from visattn.overlay.stroke import Path
from visattn.saliency import SaliencyMap

Cells = npt.NDArray[np.bool_]


def mass_mask(grid: Array, share: float) -> Cells:
    """Return the fewest cells that hold ``share`` of the positive mass, bool (rows, cols).

    Cells are taken from the highest down, equal ones in reading order; cells of zero or less are
    never taken. Without positive mass no cell is.
    """
    shares = statistics.mass(grid)
    taken = np.zeros(grid.size, np.bool_)
    if shares is None:
        return taken.reshape(grid.shape)
    order = np.argsort(-shares, kind="stable")
    held = np.cumsum(shares[order])
    # Summing in another order may miss the total by a few parts in 1e16.
    count = int(np.searchsorted(held, share * (1 - 1e-12))) + 1
    taken[order[:count]] = True
    return (taken & (shares > 0)).reshape(grid.shape)


def kept(saliency: SaliencyMap, share: float) -> Array:
    """Return the mass mask on the photo, float32 (height, width), 0 to 1, 0 where unseen."""
    cells = mass_mask(saliency.grid, share).astype(np.float32)
    return np.nan_to_num(saliency.geometry.on_original(cells, "nearest"))


def mass_box(saliency: SaliencyMap, share: float) -> Box | None:
    """Return the box around the largest connected region of the mass mask, in photo pixels.

    Largest by cells, then by mass; cells that touch at a corner are connected. The box is cut at
    the visible region. None when there is no positive mass, or the region is out of sight.
    """
    cells = mass_mask(saliency.grid, share)
    if not cells.any():
        return None
    region = _largest(cells, saliency.grid)
    rows, cols = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    chain, seen = saliency.geometry.grid_to_original, saliency.geometry.visible
    low, high = chain(rows[0], cols[0]), chain(rows[-1] + 1, cols[-1] + 1)
    box = Box(
        max(low[0], seen.top),
        max(low[1], seen.left),
        min(high[0], seen.bottom),
        min(high[1], seen.right),
    )
    return box if box.top < box.bottom and box.left < box.right else None


def _largest(cells: Cells, grid: Array) -> Cells:
    labels = measure.label(cells, connectivity=2)
    counts = np.bincount(labels.ravel())
    masses = np.bincount(labels.ravel(), weights=grid.ravel())
    best = max(range(1, len(counts)), key=lambda label: (counts[label], masses[label]))
    region: Cells = labels == best
    return region


def frame(box: Box, inset: float) -> Path:
    """Return the outline of a box as a closed path, moved inwards so that its line stays inside."""
    top, left = box.top + inset, box.left + inset
    bottom, right = max(top, box.bottom - inset), max(left, box.right - inset)
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left), (top, left)])
