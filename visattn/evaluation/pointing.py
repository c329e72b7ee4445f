"""Pointing game: does the highest cell of a map lie on the evidence?"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from visattn.evaluation.localization import Mask, pointed_at
from visattn.evaluation.measured import Measured
from visattn.saliency import SaliencyMap


def pointing_game(found: SaliencyMap, mask: Mask, tolerance: float | None = None) -> Measured:
    """Return 1 where the map's highest cell hits the mask, 0 elsewhere; ties by their share.

    A cell of the map's own grid hits the mask where it touches it, as `touched` says; with a
    ``tolerance`` where its centre lies within so many pixels of the photo from the mask, as `near`
    says. Chance is the share of such cells. Depends on ranks only.

    Zhang et al., ECCV 2016, with a tolerance of 15 pixels around the highest pixel.
    """
    pointed_at(found, mask)
    cells = touched(found, mask) if tolerance is None else near(found, mask, tolerance)
    highest = found.grid == found.grid.max()
    return Measured(float(cells[highest].mean()), float(cells.mean()))


def near(found: SaliencyMap, mask: Mask, tolerance: float) -> Mask:
    """Return the cells (row, col) whose centre lies within ``tolerance`` pixels of a mask.

    Distances are Euclidean, from the pixel of the photo that holds the centre to the nearest pixel
    of the mask: 0 asks for a centre that lies in the mask.
    """
    chain = found.geometry.grid_to_original
    centres = np.indices(found.grid.shape).reshape(2, -1).T + 0.5
    pixels = np.floor(centres * chain.scale + chain.offset)
    distance = KDTree(np.argwhere(mask)).query(pixels)[0]
    cells: Mask = (distance <= tolerance).reshape(found.grid.shape)
    return cells


def touched(found: SaliencyMap, mask: Mask) -> Mask:
    """Return the cells (row, col) of a map's grid that touch a mask (row, col) of the photo.

    Those that hold the centre of a pixel of the mask, or whose own centre lies in one.
    """
    scale, offset = (
        np.array(part)[:, None]
        for part in (found.geometry.grid_to_original.scale, found.geometry.grid_to_original.offset)
    )
    places = np.floor((np.stack(np.nonzero(mask)) + 0.5 - offset) / scale).astype(int)
    inside = ((places >= 0) & (places < np.array(found.grid.shape)[:, None])).all(axis=0)
    cells = np.zeros(found.grid.shape, bool)
    cells[tuple(places[:, inside])] = True
    centres = np.indices(cells.shape).reshape(2, -1)
    pixels = np.floor((centres + 0.5) * scale + offset).astype(int)
    inside = ((pixels >= 0) & (pixels < np.array(mask.shape)[:, None])).all(axis=0)
    cells[tuple(centres[:, inside])] |= mask[tuple(pixels[:, inside])]
    return cells
