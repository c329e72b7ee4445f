"""Localisation: does a map lie on the evidence, where it is known which pixels that is?

Functions take the mask of the upright photo and read the map bilinear on it; pixels that the model
did not see are left out everywhere. All raise `ConfigError` for a mask of another size, one without
a pixel that the model saw, or a map that is not finite.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid
from scipy.stats import rankdata

from visattn.errors import ConfigError
from visattn.evaluation.measured import Measured
from visattn.saliency import SaliencyMap

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]

EMPTY, UNSEEN, COVERING = (
    "empty mask",
    "mask outside what the model sees",
    "mask covers everything the model sees",
)
COOL = 0.1  # share of the maximum below which a value is no heat
HOTTEST = 0.99  # share of the maximum that the highest threshold has
QUANTILES = np.linspace(0, 1, 11)


def unfit(found: SaliencyMap, mask: Mask) -> str | None:
    """Return why a mask of the photo tells nothing about where a map lies, or None.

    It is empty, or the model saw no pixel of it, or nothing else.
    """
    if not mask.any():
        return EMPTY
    _, inside = seen(found, mask)
    if not inside.any():
        return UNSEEN
    return COVERING if inside.all() else None


def energy_pointing(found: SaliencyMap, mask: Mask) -> Measured:
    """Return the share of a map's positive mass that lies in a mask (row, col) of the photo.

    ``sum_mask m^+ / sum m^+`` with m the raw map, bilinear on the upright photo; pixels that the
    model did not see are left out everywhere. Chance is the share of the area, which a map without
    positive values also gets. Changes when the map is shifted or raised to a power. Raises
    `ConfigError` for a mask of another size, one without a pixel that the model saw, or a map that
    is not finite.

    Wang et al., CVPR Workshops 2020 (with boxes).
    """
    values, inside = pointed_at(found, mask)
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
    values, inside = pointed_at(found, mask)
    count = int(inside.sum())
    threshold = np.partition(values, -count)[-count]
    above, tied = values > threshold, values == threshold
    drawn = (count - above.sum()) / tied.sum()
    hits = (above & inside).sum() + drawn * (tied & inside).sum()
    return Measured(float(hits / count), float(inside.mean()))


def roc_auc(found: SaliencyMap, mask: Mask) -> Measured:
    """Return the area under the ROC curve of a map as a detector of the mask's pixels.

    The probability that a pixel of the mask has a higher value than one beside it, ties counting
    one half. Chance is 1/2. Depends on the ranks of the pixels only. Raises `ConfigError` also
    where the mask covers everything that the model saw.

    Fawcett, Pattern Recognition Letters 2006.
    """
    values, inside = pointed_at(found, mask)
    own = int(inside.sum())
    others = len(inside) - own
    if not others:
        raise ConfigError(f"{COVERING.capitalize()}: there is nothing to tell it from.")
    above = rankdata(values)[inside].sum() - own * (own + 1) / 2
    return Measured(float(above / (own * others)), 0.5)


def heat_ratio(found: SaliencyMap, mask: Mask) -> Measured:
    """Return the effective heat ratio: the mean heat in the mask of what is hotter than quantiles.

    With ``h = m^+ / max m^+``, values below 0.1 set to 0, and ``t_q`` the q-quantile of what is
    left, at most 0.99: ``sum of h over {h >= t_q} in the mask / #{h >= t_q}``, and of that the area
    over q = 0, 0.1 .. 1 by trapezoids. In 0..1. Chance is the share of the area, which a map
    without positive values also gets. Changes when the map is shifted or raised to a power.

    Zhang et al., NeurIPS 2021.
    """
    values, inside = pointed_at(found, mask)
    chance, peak = float(inside.mean()), float(values.max())
    if peak <= 0:
        return Measured(chance, chance)
    heat = values / peak
    heat[heat < COOL] = 0
    thresholds = np.minimum(np.quantile(heat[heat > 0], QUANTILES), HOTTEST)
    ratios = [heat[inside & (heat >= each)].sum() / (heat >= each).sum() for each in thresholds]
    return Measured(float(trapezoid(ratios, QUANTILES)), chance)


def own_object(found: SaliencyMap, mask: Mask, others: Mask) -> Measured:
    """Return the share of the positive mass on all objects that lies on the explained one.

    ``E / (E + O)`` with E the `energy_pointing` of its mask and O that of the ``others``, each
    (row, col) on the photo; pixels of both count in both. Chance is the share of its area, which a
    map without positive mass on objects also gets.
    """
    own, other = energy_pointing(found, mask), energy_pointing(found, others)
    mass, area = own.value + other.value, (own.chance or 0) + (other.chance or 0)
    chance = (own.chance or 0) / area
    return Measured(own.value / mass if mass > 0 else chance, chance)


def seen(found: SaliencyMap, mask: Mask) -> tuple[Values, Mask]:
    """Return map and mask at the pixels of the photo that the model saw, (pixel,) each."""
    size = found.geometry.original
    if mask.shape != tuple(size):
        raise ConfigError(
            f"The mask is {mask.shape[0]} x {mask.shape[1]}, the photo {size.height} x "
            f"{size.width}: give the mask of the upright photo."
        )
    if not np.isfinite(found.grid).all():
        raise ConfigError(f"The map of {found.method} has values that are not finite.")
    values = found.on_image().astype(np.float64)
    visible = np.isfinite(values)
    return values[visible], mask[visible]


def pointed_at(found: SaliencyMap, mask: Mask) -> tuple[Values, Mask]:
    """Return what `seen` does, and raise where no pixel of the mask is among it."""
    values, inside = seen(found, mask)
    if not inside.any():
        raise ConfigError(
            f"None of the {int(mask.sum())} pixels of the mask was seen by the model: there is "
            "nothing to point at."
        )
    return values, inside
