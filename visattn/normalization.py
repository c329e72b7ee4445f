"""Named normalisations: which raw values are drawn as the two ends of the colour scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from visattn.errors import ConfigError, suggestion
from visattn.geometry import Array


class Limits(NamedTuple):
    """Raw values that stand at the two ends of a colour scale."""

    low: float
    high: float

    def scale(self, values: Array) -> Array:
        """Map raw values to 0..1, clipped; NaN stays NaN; equal limits give 0."""
        span = self.high - self.low
        if span <= 0:
            return np.where(np.isnan(values), np.nan, np.float32(0)).astype(np.float32)
        scaled = np.clip((values.astype(np.float64) - self.low) / span, 0.0, 1.0)
        return scaled.astype(np.float32)


def _minmax(grid: Array) -> Limits:
    return Limits(float(grid.min()), float(grid.max()))


def _max(grid: Array) -> Limits:
    return Limits(0.0, max(float(grid.max()), 0.0))


def _symmetric(grid: Array) -> Limits:
    extreme = float(np.abs(grid).max())
    return Limits(-extreme, extreme)


def _percentile(grid: Array) -> Limits:
    low, high = np.percentile(grid, (1, 99))
    return Limits(float(low), float(high))


def _symmetric_percentile(grid: Array) -> Limits:
    extreme = float(np.percentile(np.abs(grid), 99))
    return Limits(-extreme, extreme)


def _none(_: Array) -> Limits:
    return Limits(0.0, 1.0)


SYMMETRIC = ("symmetric", "symmetric_percentile")

NORMALIZATIONS: dict[str, Callable[[Array], Limits]] = {
    "minmax": _minmax,
    "max": _max,
    "symmetric": _symmetric,
    "percentile": _percentile,
    "symmetric_percentile": _symmetric_percentile,
    "none": _none,
}


def limits(grid: Array, name: str) -> Limits:
    """Return the raw values that ``name`` puts at the ends of the scale of ``grid``.

    ``minmax``: minimum and maximum. ``max``: zero and maximum. ``symmetric``: minus and plus the
    largest magnitude, so that zero is the middle. ``percentile``: the 1st and 99th percentile of
    the cells (values beyond are clipped). ``symmetric_percentile``: minus and plus the 99th
    percentile of the magnitudes. ``none``: 0 and 1. Raises `ConfigError` for other names.
    """
    if name not in NORMALIZATIONS:
        raise ConfigError(f"There is no normalisation {name!r}.{suggestion(name, NORMALIZATIONS)}")
    return NORMALIZATIONS[name](grid)
