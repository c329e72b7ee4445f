"""Similarity of two maps of the same cells."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from skimage.metrics import structural_similarity

from visattn.errors import ConfigError, suggestion

Grid = npt.NDArray[np.floating]
SPEARMAN, SSIM, IOU = SIMILARITIES = ("spearman", "ssim", "iou")
TOP = 0.1
WINDOW = 7


def similarity(one: Grid, other: Grid, kind: str = SPEARMAN, absolute: bool = False) -> float:
    """Return how similar two maps (row, col) of the same cells are, 1 for maps that agree.

    ``spearman``: correlation of ranks, -1..1, ties at their mean rank. ``ssim``: structural
    similarity (Wang et al., IEEE TIP 2004) of both maps scaled to 0..1, even windows of 7 cells or
    the largest odd number that fits. ``iou``: intersection over union of the highest tenth of the
    cells (rounded up), 0..1; tied cells at its edge belong to it by the share of them that has
    room. ``absolute``: of the magnitudes. NaN for a map that is constant, and for ``ssim`` on fewer
    than 3 rows or columns. Raises `ConfigError` for another kind.
    """
    require(kind)
    first, second = (np.asarray(grid, np.float64) for grid in (one, other))
    if absolute:
        first, second = np.abs(first), np.abs(second)
    if first.min() == first.max() or second.min() == second.max():
        return math.nan
    if kind == SPEARMAN:
        return spearman(first, second)
    return _structural(first, second) if kind == SSIM else _overlap(first, second)


def require(kind: str) -> None:
    """Raise `ConfigError` for what is no name of a similarity."""
    if kind not in SIMILARITIES:
        raise ConfigError(
            f"There is no similarity {kind!r}.{suggestion(str(kind), SIMILARITIES)} "
            f"Known are {', '.join(SIMILARITIES)}."
        )


def spearman(one: Grid, other: Grid) -> float:
    """Return the correlation of the ranks of two arrays that are not constant."""
    first, second = (rankdata(grid, axis=None) for grid in (one, other))
    first, second = first - first.mean(), second - second.mean()
    return float(first @ second / math.sqrt((first @ first) * (second @ second)))


def _structural(one: Grid, other: Grid) -> float:
    side = min(*one.shape, WINDOW)
    window = side - (side + 1) % 2
    if window < 3:
        return math.nan
    first, second = ((grid - grid.min()) / (grid.max() - grid.min()) for grid in (one, other))
    return float(structural_similarity(first, second, win_size=window, data_range=1.0))


def _overlap(one: Grid, other: Grid) -> float:
    first, second = _highest(one), _highest(other)
    return float(np.minimum(first, second).sum() / np.maximum(first, second).sum())


def _highest(grid: Grid) -> Grid:
    """Return for each cell how much of it belongs to the highest tenth, 0..1."""
    count = math.ceil(TOP * grid.size)
    edge = np.partition(grid, -count, axis=None)[-count]
    above, tied = grid > edge, grid == edge
    share: Grid = above + tied * ((count - above.sum()) / tied.sum())
    return share
