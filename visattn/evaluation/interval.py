"""Intervals: bootstrap over images, paired where two methods saw the same ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

Values = npt.NDArray[np.float64]
Aggregate = Callable[[Values], Values]
RESAMPLES, LEVEL = 2000, 0.95
# By chance n differences have one sign with probability 2^(1-n). Every resample then has it, and
# the interval lies beyond zero. Below six that is more often than 1 - LEVEL.
FEWEST = 6
ROUNDING = 1e-6  # share of values, of which maps are single precision
ROOM = 500_000  # numbers in memory at once


@dataclass(frozen=True)
class Interval:
    """A value with its percentile bootstrap interval at 95 %.

    Attributes:
        value: over all groups.
        low, high: None for fewer than six groups, which the bootstrap separates by chance more
            often than an interval of 95 % may.
        groups: how many were drawn from.
    """

    value: float
    low: float | None
    high: float | None
    groups: int

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low is not None and self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high is not None and self.high < 0


def interval(parts: Values, aggregate: Aggregate, seed: int = 0) -> Interval:
    """Return the interval of ``aggregate`` over groups; ``parts`` are (group, part).

    Efron & Tibshirani, An Introduction to the Bootstrap, 1993: percentiles 2.5 and 97.5 of 2000
    resamples of whole groups.
    """
    return _drawn(parts.shape, lambda index: aggregate(parts[index]), seed)


def paired(one: Values, other: Values, aggregate: Aggregate, seed: int = 0) -> Interval:
    """Return the interval of the difference ``one - other`` on the same groups (group, part).

    Differences below a millionth of the values are rounding, and zero: maps are single precision,
    and two methods whose every value is the same but for the last digits are not told apart.
    """
    if one.shape != other.shape:
        raise ValueError(f"pairs have one shape: {one.shape}, {other.shape}")

    def difference(index: npt.NDArray[np.int64]) -> Values:
        left, right = aggregate(one[index]), aggregate(other[index])
        found = left - right
        return np.where(np.abs(found) > ROUNDING * (np.abs(left) + np.abs(right)), found, 0.0)

    return _drawn(one.shape, difference, seed)


def _drawn(
    shape: tuple[int, ...], statistic: Callable[[npt.NDArray[np.int64]], Values], seed: int
) -> Interval:
    """Return the interval of a statistic of groups; ``shape`` (group, part) is that of the values.

    Resamples are drawn a few at a time, which changes none of them: fewer where parts are many.
    """
    count = shape[0]
    own = float(statistic(np.arange(count)))
    if count < FEWEST:
        return Interval(own, None, None, count)

    def of_draws(index: Values, axis: int = -1) -> Values:
        del axis  # scipy asks for the last one
        return statistic(index.astype(np.int64))

    found = bootstrap(
        (np.arange(count),),
        of_draws,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, ROOM // math.prod(shape)),
        method="percentile",
        confidence_level=LEVEL,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(own, float(found.low), float(found.high), count)
