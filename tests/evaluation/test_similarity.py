"""Similarities of maps against explicit loops, with ties."""

from __future__ import annotations

import math

import numpy as np
import pytest

from visattn.errors import ConfigError
from visattn.evaluation.similarity import similarity


def tied(seed: int, shape: tuple[int, int] = (6, 9)) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, size=shape).astype(np.float32)


def naive_ranks(values: list[float]) -> list[float]:
    """One plus the number of smaller values, plus half of the others that are equal."""
    return [1 + sum(w < v for w in values) + (sum(w == v for w in values) - 1) / 2 for v in values]


def naive_pearson(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    product = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    squares = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return product / math.sqrt(squares)


def naive_ssim(a: np.ndarray, b: np.ndarray, side: int) -> float:
    """Mean over all windows of the formula of Wang et al. 2004, with sample (co)variances."""
    a, b = ((m - m.min()) / (m.max() - m.min()) for m in (a.astype(float), b.astype(float)))
    c1, c2, found = 0.01**2, 0.03**2, []
    for row in range(a.shape[0] - side + 1):
        for col in range(a.shape[1] - side + 1):
            x, y = (m[row : row + side, col : col + side].ravel() for m in (a, b))
            cov = np.cov(x, y)
            above = (2 * x.mean() * y.mean() + c1) * (2 * cov[0, 1] + c2)
            below = (x.mean() ** 2 + y.mean() ** 2 + c1) * (cov[0, 0] + cov[1, 1] + c2)
            found.append(above / below)
    return float(np.mean(found))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("absolute", [False, True])
def test_spearman_and_ssim_are_those_of_explicit_loops(seed, absolute):
    one, other = tied(seed), tied(seed + 10)
    first, second = (np.abs(m) if absolute else m for m in (one, other))
    ranks = [naive_ranks([float(v) for v in m.flat]) for m in (first, second)]
    assert similarity(one, other, absolute=absolute) == pytest.approx(naive_pearson(*ranks))
    expected = naive_ssim(first, second, 5)
    assert similarity(one, other, "ssim", absolute) == pytest.approx(expected, abs=1e-9)


def test_windows_of_ssim_have_seven_cells_where_they_fit():
    one, other = tied(1, (8, 9)), tied(2, (8, 9))
    assert similarity(one, other, "ssim") == pytest.approx(naive_ssim(one, other, 7), abs=1e-9)
    assert naive_ssim(one, other, 7) != pytest.approx(naive_ssim(one, other, 5), abs=1e-3)


def test_overlap_of_the_highest_tenth_without_ties():
    one = np.arange(40.0).reshape(5, 8)
    other = one.copy()
    other[4, 7], other[0, 0] = other[0, 0], other[4, 7]
    # Highest 4 cells: three in common, five in either.
    assert similarity(one, other, "iou") == pytest.approx(3 / 5)
    assert similarity(one, -one, "iou") == 0
    assert similarity(one, -one, "iou", absolute=True) == 1


def test_tied_cells_share_the_room_that_is_left():
    one = np.zeros((4, 5))
    one[0, :3] = 1  # two places for three cells
    other = np.zeros((4, 5))
    other[0, 0], other[3, 4] = 2, 1
    assert similarity(one, other, "iou") == pytest.approx((2 / 3) / (1 + 1 + 2 / 3 + 2 / 3))


def test_a_map_agrees_with_itself_and_with_a_gamma_of_it_by_rank():
    one = np.random.default_rng(0).random((6, 9))
    for kind in ("spearman", "ssim", "iou"):
        assert similarity(one, one, kind) == pytest.approx(1)
        assert similarity(one, 3 * one + 5, kind) == pytest.approx(1)
    assert similarity(one, one**3) == pytest.approx(1)
    assert similarity(one, one**3, "ssim") < 0.99
    assert similarity(one, -one) == pytest.approx(-1)


def test_constant_and_small_maps_have_none():
    assert math.isnan(similarity(np.ones((3, 4)), tied(0, (3, 4))))
    assert math.isnan(similarity(np.array([[1.0, -1.0]]), np.array([[1.0, 2.0]]), absolute=True))
    assert math.isnan(similarity(tied(0, (2, 9)), tied(1, (2, 9)), "ssim"))
    with pytest.raises(ConfigError, match="spearman"):
        similarity(tied(0), tied(1), "spearmen")
