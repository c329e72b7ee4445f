"""Intervals: percentile bootstrap over groups, paired on the same groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap

from visattn.evaluation import interval as module
from visattn.evaluation.interval import RESAMPLES, interval, paired


def mean(parts: np.ndarray) -> np.ndarray:
    return parts[..., 0].mean(axis=-1)


def ratio(parts: np.ndarray) -> np.ndarray:
    """A value that is no mean of values: the ratio of two sums."""
    sums = parts.sum(axis=-2)
    return sums[..., 0] / sums[..., 1]


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(3).gamma(2.0, size=(17, 1))


def test_it_is_the_bootstrap_of_the_values_themselves(values: np.ndarray) -> None:
    found = interval(values, mean)
    expected = bootstrap(
        (values[:, 0],), np.mean, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.03)
    assert found.groups == 17


def test_a_naive_loop_over_resamples_says_the_same() -> None:
    parts = np.random.default_rng(1).uniform(1, 2, size=(9, 2))
    found = interval(parts, ratio)
    random = np.random.default_rng(5)
    drawn = []
    for _ in range(4000):
        chosen = parts[random.integers(9, size=9)]
        drawn.append(sum(row[0] for row in chosen) / sum(row[1] for row in chosen))
    assert found.value == pytest.approx(parts[:, 0].sum() / parts[:, 1].sum())
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.01)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.01)


def test_it_covers_the_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        found = interval(random.normal(1.0, 1.0, size=(40, 1)), mean)
        covered += found.low <= 1.0 <= found.high
    assert 85 <= covered <= 100


def test_pairs_separate_what_intervals_alone_do_not(values: np.ndarray) -> None:
    better = values + 0.05 + 0.01 * np.random.default_rng(0).normal(size=values.shape)
    one, other = interval(better, mean), interval(values, mean)
    assert one.low < other.high  # the intervals overlap
    difference = paired(better, values, mean)
    assert difference.above_zero
    assert not difference.below_zero
    assert difference.value == pytest.approx(one.value - other.value)
    assert paired(values, better, mean).below_zero


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = interval(np.full((7, 1), 0.25), mean)
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)
    difference = paired(np.ones((7, 1)), np.ones((7, 1)), mean)
    assert not difference.above_zero
    assert not difference.below_zero


@pytest.mark.parametrize("rounding", [1e-17, 2e-8])
def test_rounding_is_no_difference(rounding: float) -> None:
    """A class-agnostic map has 1/4 of its mass in a tile, on average over the tiles of a mosaic."""
    one, other = np.full((6, 1), 0.25), np.full((6, 1), 0.25 - rounding)
    for found in (paired(one, other, mean), paired(other, one, mean)):
        assert (found.value, found.low, found.high) == (0, 0, 0)
    assert paired(one + 1e-5, other, mean).above_zero


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_groups_have_no_interval_and_are_never_better(count: int) -> None:
    found = paired(np.ones((count, 1)), np.zeros((count, 1)), mean)
    assert (found.value, found.low, found.high) == (1.0, None, None)
    assert not found.above_zero
    assert paired(np.ones((6, 1)), np.zeros((6, 1)), mean).above_zero


def test_a_seed_gives_the_same_interval(values: np.ndarray) -> None:
    assert interval(values, mean, 4) == interval(values, mean, 4)
    assert interval(values, mean, 4) != interval(values, mean, 5)


def test_pairs_of_different_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs have one shape"):
        paired(np.ones((2, 1)), np.ones((3, 1)), mean)


def test_resamples_are_few_at_a_time_where_parts_are_many(monkeypatch) -> None:
    parts = np.random.default_rng(1).uniform(1, 2, size=(20, 100))
    largest = 0

    def noting(some: np.ndarray) -> np.ndarray:
        nonlocal largest
        largest = max(largest, some.size)
        return ratio(some)

    few = interval(parts, noting)
    assert largest <= module.ROOM
    monkeypatch.setattr(module, "ROOM", 2_000 * parts.size)
    assert interval(parts, noting) == few
    assert largest == 2_000 * parts.size
