"""Agreement: how alike maps of the same photos are, as a matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from visattn.errors import ConfigError, suggestion
from visattn.figures.alignment import aligned
from visattn.figures.arrangement import rectangle
from visattn.figures.facts import Labels, Maps, identity
from visattn.geometry import Array
from visattn.saliency import SaliencyMap

Matrix = npt.NDArray[np.float64]
TOP_SHARE = 0.2
WORDS = {
    "spearman": "Spearman's rank correlation of cells",
    "pearson": "Pearson's correlation of cells",
    "iou": f"intersection over union of the highest {TOP_SHARE:.0%} of cells",
}


@dataclass(frozen=True, eq=False)
class Agreement:
    """How alike maps are, pair by pair, averaged over photos.

    Attributes:
        labels: what the maps are of, one per row and column.
        values: float64 (map, map): 1 for equal maps; NaN for a pair that no photo could compare.
        spread: float64 (map, map): standard deviation over photos; 0 for one photo.
        counts: int (map, map): photos on which both maps carried a signal.
        measure: name of the measure.
    """

    labels: tuple[str, ...]
    values: Matrix
    spread: Matrix
    counts: npt.NDArray[np.intp]
    measure: str

    @property
    def words(self) -> str:
        """The measure, and over how many photos its mean was taken."""
        photos = int(self.counts.max())
        return WORDS[self.measure] + (f"; mean over {photos} photos" if photos > 1 else "")

    @property
    def caption(self) -> str:
        """A caption for the figure of the matrix."""
        pairs = int(np.isnan(self.values).sum())
        missing = " n/a: no photo on which both maps carry a signal." if pairs else ""
        return f"Agreement of {', '.join(self.labels)}: {self.words}.{missing}"


def agreement(
    maps: Any, *, measure: str = "spearman", labels: Sequence[str] | None = None
) -> Agreement:
    """Return how alike the columns of ``maps`` are, averaged over its rows, one photo each.

    Each pair is brought to one grid (`visattn.figures.aligned`). ``spearman``: correlation of the
    ranks of the cells, ties averaged, -1 to 1. ``pearson``: correlation of the values, -1 to 1.
    ``iou``: intersection over union of the highest fifth of the cells, 0 to 1; see `iou` for ties.
    A map without signal is compared with nothing. Raises `ConfigError` for fewer than two columns,
    rows of unequal length, maps of different photos in one row, a column whose maps differ in
    anything but their photo and the class found on it, and an unknown measure.
    """
    require_measure(measure)
    rows = rectangle(maps)
    count = len(rows[0])
    if count < 2:
        raise ConfigError("Agreement is between at least two maps of a photo; this is one.")
    require_columns(rows)
    names = _names(rows) if labels is None else tuple(labels)
    if len(names) != count:
        raise ConfigError(f"{len(names)} labels were given for {count} maps: {list(names)}.")
    found = np.full((len(rows), count, count), np.nan)
    for index, row in enumerate(rows):
        for i, j in combinations(range(count), 2):
            found[index, i, j] = found[index, j, i] = _compared(row[i], row[j], measure)
        for i, each in enumerate(row):
            found[index, i, i] = 1.0 if each and not each.no_signal else np.nan
    counts = (~np.isnan(found)).sum(axis=0)
    known = np.nan_to_num(found)
    values = np.where(counts > 0, known.sum(axis=0) / np.maximum(counts, 1), np.nan)
    off = np.nan_to_num(found - values) ** 2
    return Agreement(
        names, values, np.sqrt(off.sum(axis=0) / np.maximum(counts, 1)), counts, measure
    )


def require_measure(name: str) -> None:
    """Raise `ConfigError` for a measure that does not exist."""
    if name not in MEASURES:
        raise ConfigError(f"There is no measure {name!r}.{suggestion(name, MEASURES)}")


def require_columns(rows: Maps) -> None:
    """Raise `ConfigError` for a column whose maps are of several methods, models, layers, ...

    Their mean over the rows would be the mean of different things.
    """
    for index, column in enumerate(zip(*rows, strict=True), 1):
        known = [identity(each) for each in column if each]
        for fact in known[0] if known else ():
            found = list(dict.fromkeys(each[fact] or f"no {fact}" for each in known))
            if len(found) > 1:
                raise ConfigError(
                    f"The maps of column {index} differ in their {fact} ({', '.join(found)}): "
                    "agreement is a mean over photos, so the maps of a column must differ in their "
                    "photo alone. Make rows of images, each with its maps in the same order."
                )


def _names(rows: list[list[SaliencyMap | None]]) -> tuple[str, ...]:
    columns = Labels.of(rows).columns
    return tuple(", ".join(lines) or f"map {i + 1}" for i, lines in enumerate(columns))


def _compared(one: SaliencyMap | None, other: SaliencyMap | None, measure: str) -> float:
    if one is None or other is None or one.no_signal or other.no_signal:
        return float("nan")
    (first, second), _ = aligned([one, other])
    return MEASURES[measure](first, second)


def spearman(one: Array, other: Array) -> float:
    """Return the correlation of ranks, ties averaged; NaN where one side is constant."""
    return pearson(rankdata(one, axis=None), rankdata(other, axis=None))


def pearson(one: Any, other: Any) -> float:
    """Return ``sum (a - mean a)(b - mean b) / (|a - mean a| |b - mean b|)``, NaN for a constant."""
    a, b = (np.asarray(each, np.float64).ravel() for each in (one, other))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale > 0 else float("nan")


def iou(one: Array, other: Array, top: float = TOP_SHARE) -> float:
    """Return intersection over union of the highest share ``top`` of the cells (rounded up), 0..1.

    ``sum min(p, q) / sum max(p, q)``, where p and q are the shares with which each cell belongs to
    the highest cells of either map: 1 above the cut, 0 below it; cells that tie at the cut divide
    the places that are left among them equally, as they would in the mean over all orders of
    reading. A cell at its map's lowest value belongs to nothing, so that maps of few hot cells are
    compared by these alone. NaN where both maps are constant.
    """
    first, second = _membership(one, top), _membership(other, top)
    whole = float(np.maximum(first, second).sum())
    return float(np.minimum(first, second).sum()) / whole if whole > 0 else float("nan")


def _membership(grid: Array, top: float) -> Matrix:
    """Return the share, 0 to 1, with which each cell belongs to the highest ones."""
    values = np.asarray(grid, np.float64).ravel()
    places = int(np.ceil(top * values.size))
    cut = np.sort(values)[-places]
    above, tied = values > cut, values == cut
    share = (places - above.sum()) / tied.sum()
    return np.where(values > values.min(), np.where(tied, share, above), 0.0)


MEASURES: dict[str, Callable[[Array, Array], float]] = {
    "spearman": spearman,
    "pearson": pearson,
    "iou": iou,
}
