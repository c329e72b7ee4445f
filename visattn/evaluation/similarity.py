"""Similarity of two maps of the same cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from visattn.figures.agreement import iou, spearman
from visattn.options import require_choice

Grid = npt.NDArray[np.floating]
SPEARMAN, SSIM, IOU = SIMILARITIES = ("spearman", "ssim", "iou")
TOP = 0.1
WINDOW = 7


def similarity(one: Grid, other: Grid, kind: str = SPEARMAN, absolute: bool = False) -> float:
    """Return how similar two maps (row, col) of the same cells are, 1 for maps that agree.

    ``spearman``: correlation of ranks, -1..1, ties at their mean rank. ``ssim``: structural
    similarity (Wang et al., IEEE TIP 2004) of both maps scaled to 0..1, even windows of 7 cells or
    the largest odd number that fits. ``iou``: intersection over union of the highest tenth of the
    cells, 0..1. ``spearman`` and ``iou`` are those of `visattn.figures.agreement`, ties included.
    ``absolute``: of the magnitudes. NaN for a map that is constant, and for ``ssim`` on fewer
    than 3 rows or columns. Raises `ConfigError` for another kind.
    """
    require_choice("similarity", kind, SIMILARITIES)
    first, second = (np.asarray(grid, np.float64) for grid in (one, other))
    if absolute:
        first, second = np.abs(first), np.abs(second)
    if first.min() == first.max() or second.min() == second.max():
        return math.nan
    return MEASURES[kind](first, second)


def _structural(one: Grid, other: Grid) -> float:
    side = min(*one.shape, WINDOW)
    window = side - (side + 1) % 2
    if window < 3:
        return math.nan
    first, second = ((grid - grid.min()) / (grid.max() - grid.min()) for grid in (one, other))
    return float(structural_similarity(first, second, win_size=window, data_range=1.0))


MEASURES: dict[str, Callable[[Grid, Grid], float]] = {
    SPEARMAN: spearman,
    SSIM: _structural,
    IOU: partial(iou, top=TOP),
}
