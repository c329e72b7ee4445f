"""Localisation: does a map lie on the evidence, where it is known which pixels that is?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from visattn.errors import ConfigError
from visattn.evaluation.measured import Measured
from visattn.saliency import SaliencyMap

Mask = npt.NDArray[np.bool_]


def energy_pointing(found: SaliencyMap, mask: Mask) -> Measured:
    """Return the share of a map's positive mass that lies in a mask (row, col) of the photo.

    ``sum_mask m^+ / sum m^+`` with m the raw map, bilinear on the upright photo; pixels that the
    model did not see are left out everywhere. Chance is the share of the area, which a map without
    positive values also gets. Changes when the map is shifted or raised to a power. Raises
    `ConfigError` for a mask of another size, one without a pixel that the model saw, or a map that
    is not finite.

    Wang et al., CVPR Workshops 2020 (with boxes).
    """
    values, inside = _seen(found, mask)
    positive = np.clip(values, 0, None)
    chance, total = float(inside.mean()), float(positive.sum())
    share = float(positive[inside].sum()) / total if total > 0 else chance
    return Measured(share, chance)


def rank_accuracy(found: SaliencyMap, mask: Mask) -> Measured:
    """Return the share of a mask's K pixels that are among the K highest of the map.

    ``|top-K pixels in mask| / K`` with m and the mask as in `energy_pointing`; tied pixels count by
    their expectation under a random order. Chance is the share of the area. Depends on ranks only.

    Arras, Osman & Samek, Information Fusion 2022.
    """
    values, inside = _seen(found, mask)
    count = int(inside.sum())
    threshold = np.partition(values, -count)[-count]
    above, tied = values > threshold, values == threshold
    drawn = (count - above.sum()) / tied.sum()
    hits = (above & inside).sum() + drawn * (tied & inside).sum()
    return Measured(float(hits / count), float(inside.mean()))


def pointing_game(found: SaliencyMap, mask: Mask) -> Measured:
    """Return 1 where the map's highest cell touches the mask, 0 elsewhere; ties by their share.

    A cell of the map's own grid touches the mask as `touched` says. Chance is the share of such
    cells. Depends on ranks only.

    Zhang et al., ECCV 2016, with cells in the place of a tolerance of 15 pixels.
    """
    _seen(found, mask)
    cells = touched(found, mask)
    highest = found.grid == found.grid.max()
    return Measured(float(cells[highest].mean()), float(cells.mean()))


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


def _seen(found: SaliencyMap, mask: Mask) -> tuple[npt.NDArray[np.float64], Mask]:
    """Return map and mask at the pixels that the model saw (pixel,), after looking at both."""
    size = found.geometry.original
    if mask.shape != tuple(size):
        raise ConfigError(
            f"The mask is {mask.shape[0]} x {mask.shape[1]}, the photo {size.height} x "
            f"{size.width}: give the mask of the upright photo."
        )
    if not np.isfinite(found.grid).all():
        raise ConfigError(f"The map of {found.method} has values that are not finite.")
    values = found.on_image().astype(np.float64)
    seen = np.isfinite(values)
    inside = mask[seen]
    if not inside.any():
        raise ConfigError(
            f"None of the {int(mask.sum())} pixels of the mask was seen by the model: there is "
            "nothing to point at."
        )
    return values[seen], inside
