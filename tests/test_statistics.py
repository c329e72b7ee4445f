"""Statistics against their formulas, written out naively in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from visattn.statistics import (
    concentration,
    entropy,
    gini,
    lattice,
    mass,
    no_signal,
    summary,
    top_mass,
)

SEEDS = range(8)


def any_map(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows, cols = generator.integers(1, 9, 2)
    return generator.normal(size=(rows + 1, cols + 1)).astype(np.float32) ** 3


def positive_shares(grid: np.ndarray) -> list[float]:
    positive = [max(float(v), 0.0) for v in grid.ravel()]
    return [v / math.fsum(positive) for v in positive]


@pytest.mark.parametrize("seed", SEEDS)
def test_entropy_is_minus_sum_p_log_p(seed: int) -> None:
    shares = positive_shares(any_map(seed))
    oracle = -math.fsum(p * math.log(p) for p in shares if p > 0)
    assert entropy(any_map(seed)) == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_gini_is_the_mean_absolute_difference_over_twice_the_mean(seed: int) -> None:
    shares = positive_shares(any_map(seed))
    n = len(shares)
    differences = math.fsum(abs(a - b) for a in shares for b in shares)
    assert gini(any_map(seed)) == pytest.approx(differences / (2 * n * n * (1 / n)), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fraction", [0.05, 0.2, 1.0])
def test_top_mass_adds_up_the_highest_cells(seed: int, fraction: float) -> None:
    shares = sorted(positive_shares(any_map(seed)), reverse=True)
    count = math.ceil(fraction * len(shares))
    oracle = math.fsum(shares[:count])
    assert top_mass(any_map(seed), fraction) == pytest.approx(oracle, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_mass_sums_to_one_and_ignores_negative_cells(seed: int) -> None:
    grid = any_map(seed)
    shares = mass(grid)
    assert shares is not None
    assert shares.dtype == np.float64
    assert shares.sum() == pytest.approx(1)
    assert (shares[grid.ravel() <= 0] == 0).all()


@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (16, 16)])
def test_a_uniform_map(shape: tuple[int, int]) -> None:
    grid = np.full(shape, 0.3, np.float32)
    assert gini(grid) == pytest.approx(0, abs=1e-12)
    assert entropy(grid) == pytest.approx(math.log(grid.size))
    assert top_mass(grid) == pytest.approx(math.ceil(0.05 * grid.size) / grid.size)


@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (16, 16)])
def test_a_single_hot_cell(shape: tuple[int, int]) -> None:
    grid = np.zeros(shape, np.float32)
    grid[-1, 0] = 2
    assert gini(grid) == pytest.approx(1 - 1 / grid.size)
    assert entropy(grid) == 0
    assert top_mass(grid) == 1


def test_a_map_of_one_cell() -> None:
    grid = np.array([[3.0]], np.float32)
    assert (gini(grid), entropy(grid), top_mass(grid)) == (0, 0, 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_statistics_know_neither_unit_nor_order(seed: int) -> None:
    grid = any_map(seed)
    shuffled = np.random.default_rng(seed).permutation(grid.ravel()).reshape(grid.shape) * 64
    for statistic in (entropy, gini, top_mass):
        assert statistic(grid) == pytest.approx(statistic(shuffled), abs=1e-12)


def test_concentration_raises_gini_and_top_mass_and_lowers_entropy() -> None:
    ramp = np.linspace(0.1, 1, 400, dtype=np.float32).reshape(20, 20)
    maps = [ramp**power for power in (1, 2, 4, 8)]
    assert sorted(map(gini, maps)) == [gini(m) for m in maps]
    assert sorted(map(top_mass, maps)) == [top_mass(m) for m in maps]
    assert sorted(map(entropy, maps), reverse=True) == [entropy(m) for m in maps]


def test_large_maps_of_small_values_lose_nothing() -> None:
    grid = np.full((1000, 1000), 1e-30, np.float32)
    assert entropy(grid) == pytest.approx(math.log(1e6))
    assert gini(grid) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    "grid", [np.zeros((2, 2)), -np.ones((2, 2)), np.full((2, 2), np.nan), np.array([[np.inf, 1]])]
)
def test_without_positive_mass_there_are_no_numbers(grid: np.ndarray) -> None:
    assert mass(grid.astype(np.float32)) is None
    assert summary(grid.astype(np.float32)) == {"entropy": None, "gini": None, "top5_mass": None}


def test_the_summary_holds_the_three_numbers() -> None:
    grid = any_map(3)
    assert summary(grid) == {
        "entropy": entropy(grid), "gini": gini(grid), "top5_mass": top_mass(grid)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((0, 0, 0), "all cells are zero"),
        ((0.25, 0.25, 0.25), "all cells are equal to 0.25"),
        ((1e6, 1e6 + 0.125, 1e6), "all cells are equal to 1e"),
        ((-2, -2, -2), "all cells are equal to -2"),
        ((np.nan, 1, 2), "1 of 3 cells are not finite"),
        ((np.inf, -np.inf, 2), "2 of 3 cells are not finite"),
    ],
)
def test_no_signal_says_why(values: tuple[float, ...], reason: str) -> None:
    assert str(no_signal(np.array([values], np.float32))).startswith(reason)


@pytest.mark.parametrize("values", [(0, 1e-30), (1, 1.0001), (-1, 1), (1e-38, 2e-38)])
def test_small_values_and_small_differences_are_signals(values: tuple[float, ...]) -> None:
    assert no_signal(np.array([values], np.float32)) is None


def test_concentration_names_the_one_cell_that_dwarfs_the_rest() -> None:
    grid = np.ones((12, 12), np.float32)
    assert concentration(grid) is None
    grid[3, 4] = 16.0
    assert concentration(grid) == pytest.approx(16 / 159)
    grid[3, 4] = 3.9
    assert concentration(grid) is None
    assert concentration(np.array([[0.0, 100.0]], np.float32)) is None
    grid[3, 4], grid[0, 0] = 16.0, -0.1
    assert concentration(grid) is None


def test_a_lattice_is_all_of_its_own_variance_and_none_of_a_photos() -> None:
    board = np.indices((9, 12)).sum(axis=0) % 2
    assert lattice(board.astype(np.float32)) == pytest.approx(1)
    ramp = np.arange(96, dtype=np.float32).reshape(8, 12)
    assert lattice(ramp) == pytest.approx(0, abs=0.1)
    noise = np.random.default_rng(0).random((40, 40))
    assert lattice(board[:8] + 0.5 * np.ones((8, 12))) == pytest.approx(1)
    found = lattice(noise)
    assert found is not None
    assert found < 0.01


def test_small_and_flat_maps_have_no_lattice() -> None:
    assert lattice(np.ones((20, 20))) is None
    assert lattice(np.random.default_rng(0).random((7, 7))) is None
