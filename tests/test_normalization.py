"""Named normalisations against values written down by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from visattn.errors import ConfigError
from visattn.normalization import NORMALIZATIONS, SYMMETRIC, Limits, limits


def grid(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("minmax", (-1, 0, 3), (-1, 3)),
        ("minmax", (2, 2), (2, 2)),
        ("max", (0.5, 4), (0, 4)),
        ("max", (-3, -1), (0, 0)),
        ("symmetric", (-1, 0, 3), (-3, 3)),
        ("symmetric", (-4, 1), (-4, 4)),
        ("none", (-7, 9), (0, 1)),
        ("symmetric_percentile", tuple(range(-100, 1)), (-99, 99)),
        ("symmetric_percentile", (-1, 0), (-0.99, 0.99)),
        ("percentile", tuple(range(101)), (1, 99)),
        ("percentile", (0, 1), (0.01, 0.99)),
    ],
)
def test_limits(name: str, values: tuple[float, ...], expected: tuple[float, float]) -> None:
    assert limits(grid(*values), name) == pytest.approx(expected)


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"no normalisation 'min_max'\. Did you mean 'minmax'\?"):
        limits(grid(1), "min_max")


def test_scaling_is_linear_and_clips() -> None:
    scaled = Limits(2, 6).scale(grid(0, 2, 3, 6, 9))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [[0, 0, 0.25, 1, 1]]


def test_unseen_values_stay_unseen() -> None:
    for span in (Limits(0, 1), Limits(1, 1)):
        scaled = span.scale(grid(math.nan, 0.5))
        assert np.isnan(scaled[0, 0])
        assert np.isfinite(scaled[0, 1])


def test_equal_limits_give_zero_not_a_division() -> None:
    assert Limits(3, 3).scale(grid(1, 3, 5)).tolist() == [[0, 0, 0]]


def test_a_tiny_span_on_a_large_offset_keeps_its_steps() -> None:
    values = np.float32(1000) + np.float32(2**-13) * np.arange(5, dtype=np.float32)
    scaled = limits(values[None], "minmax").scale(values[None])
    assert scaled[0] == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-6)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_every_normalisation_keeps_the_order_and_stays_between_its_ends(name: str) -> None:
    values = np.sort(np.random.default_rng(1).normal(size=200)).astype(np.float32)[None]
    scaled = limits(values, name).scale(values)
    assert (np.diff(scaled[0]) >= 0).all()
    assert scaled.min() >= 0
    assert scaled.max() <= 1


@pytest.mark.parametrize("name", ["minmax", *SYMMETRIC, "max", "percentile"])
def test_the_unit_of_the_values_does_not_matter(name: str) -> None:
    values = np.random.default_rng(2).normal(size=(6, 7)).astype(np.float32)
    one, other = (limits(v, name).scale(v) for v in (values, values * 1024))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_scales_put_zero_in_the_middle(name: str) -> None:
    values = grid(-1, 0, 4)
    assert limits(values, name).scale(values)[0, 1] == 0.5
