"""Mosaics and the grid pointing game against known answers and a loop over pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from visattn.errors import ConfigError
from visattn.evaluation.metrics import METRICS, read_metric
from visattn.evaluation.mosaic import cell_of, drawn, grid_pointing, mosaics, pointed, tiles_of
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.saliency import SaliencyMap

SIDE = 2


def pixel_map(values: np.ndarray) -> SaliencyMap:
    return SaliencyMap(values, Geometry.plain(Size(*values.shape)), "test", "test")


def one_tile(tile: int, height: int = 6, width: int = 10) -> np.ndarray:
    values = np.zeros((height, width))
    row, col = divmod(tile, SIDE)
    values[
        row * height // 2 : (row + 1) * height // 2, col * width // 2 : (col + 1) * width // 2
    ] = 3
    return values


@pytest.mark.parametrize("tile", range(SIDE**2))
def test_a_map_of_one_tile_is_all_in_it(tile: int) -> None:
    found = pixel_map(one_tile(tile))
    scores = [grid_pointing(found, each, SIDE) for each in range(SIDE**2)]
    hits = [pointed(found, each, SIDE) for each in range(SIDE**2)]
    assert scores == hits == [float(each == tile) for each in range(SIDE**2)]


def test_an_even_map_is_a_quarter_in_each_and_an_empty_one_in_none() -> None:
    assert grid_pointing(pixel_map(np.ones((6, 10))), 2, SIDE) == pytest.approx(0.25)
    assert pointed(pixel_map(np.ones((6, 10))), 2, SIDE) == pytest.approx(0.25)
    assert grid_pointing(pixel_map(np.zeros((6, 10))), 2, SIDE) == 0
    assert grid_pointing(pixel_map(-np.ones((6, 10))), 2, SIDE) == 0


def test_the_share_is_that_of_the_positive_part() -> None:
    values = np.random.default_rng(0).normal(size=(6, 10))
    total = inside = 0.0
    for row in range(6):
        for col in range(10):
            total += max(values[row, col], 0)
            inside += max(values[row, col], 0) * (row >= 3 and col < 5)
    assert grid_pointing(pixel_map(values), 2, SIDE) == pytest.approx(inside / total)


def test_ties_of_the_highest_cell_are_shared_between_tiles() -> None:
    values = np.zeros((4, 4))
    values[0, 0] = values[0, 1] = values[3, 3] = 1
    found = pixel_map(values)
    shares = [pointed(found, tile, SIDE) for tile in range(4)]
    assert shares == pytest.approx([2 / 3, 0, 0, 1 / 3])


def test_tiles_lie_row_by_row() -> None:
    tiles = torch.arange(5.0).reshape(5, 1, 1, 1).expand(5, 3, 2, 4)
    (first, *_) = mosaics(5, SIDE)
    image = first.compose(tiles)
    assert image.shape == (3, 4, 8)
    corners = [image[0, row, col].item() for row in (0, 3) for col in (0, 7)]
    assert corners == list(map(float, first.photos))


def test_every_choice_comes_once_and_from_the_seed() -> None:
    every = mosaics(6, SIDE, seed=3)
    assert len({frozenset(each.photos) for each in every}) == len(every) == 15
    assert every == mosaics(6, SIDE, seed=3) != mosaics(6, SIDE, seed=4)
    assert len(mosaics(6, SIDE, limit=4)) == 4


def test_impossible_mosaics_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 photos do not fill"):
        mosaics(3, SIDE)
    with pytest.raises(ConfigError, match="different sizes"):
        tiles_of([torch.zeros(3, 4, 4), torch.zeros(3, 4, 5)])


def blurred(values: np.ndarray, kernel: int) -> np.ndarray:
    """Convolve with a Gaussian of deviation kernel / 4, cut at the kernel, zero outside."""
    reach = kernel // 2
    weights = np.array([
        [np.exp(-(a * a + b * b) / (2 * (kernel / 4) ** 2)) for b in range(-reach, reach + 1)]
        for a in range(-reach, reach + 1)
    ])  # fmt: skip
    weights /= weights.sum()
    found = np.zeros_like(values)
    for row, col in np.ndindex(values.shape):
        for a, b in np.ndindex(kernel, kernel):
            r, c = row + a - reach, col + b - reach
            if 0 <= r < values.shape[0] and 0 <= c < values.shape[1]:
                found[row, col] += weights[a, b] * values[r, c]
    return found


@pytest.mark.parametrize("kernel", [3, 5])
def test_smoothing_comes_before_the_positive_part(kernel: int) -> None:
    values = np.random.default_rng(1).normal(size=(6, 10))
    positive = blurred(values, kernel).clip(min=0)
    expected = positive[3:, :5].sum() / positive.sum()
    assert grid_pointing(pixel_map(values), 2, SIDE, kernel) == pytest.approx(expected, abs=1e-6)
    assert grid_pointing(pixel_map(values), 2, SIDE) != pytest.approx(expected, abs=1e-3)


def test_cells_at_the_edge_of_a_tile_reach_over_it_only_where_they_are_spread() -> None:
    values = np.zeros((4, 6))
    values[1, 2] = 1  # at the corner of the first tile
    geometry = Geometry.plain(Size(16, 24)).with_grid(Size(4, 6))
    found = SaliencyMap(values, geometry, "test", "test")
    assert grid_pointing(found, 0, SIDE, interpolation="nearest") == 1
    assert grid_pointing(found, 0, SIDE) < 0.8


def test_where_the_grid_does_not_reach_there_is_no_mass() -> None:
    geometry = Geometry.plain(Size(8, 8)).with_grid(Size(3, 3), (2.0, 2.0))
    found = SaliencyMap(np.ones((3, 3)), geometry, "test", "test")
    assert grid_pointing(found, 0, SIDE) == pytest.approx(16 / 36)
    broken = np.ones((6, 10))
    broken[0, 0] = np.nan
    assert grid_pointing(pixel_map(broken), 0, SIDE) == 0


def test_tiles_that_are_not_whole_are_refused() -> None:
    assert cell_of((6, 10), 3, 2) == (slice(3, 6), slice(5, 10))
    with pytest.raises(ConfigError, match="6 x 11 pixels are not 2 x 2 equal tiles"):
        grid_pointing(pixel_map(np.ones((6, 11))), 0, SIDE)


def judged(metric: Any, values: np.ndarray, tile: int) -> Any:
    sample = type("Sample", (), {"tile": (tile, SIDE)})
    case: Any = type("Case", (), {"found": pixel_map(values), "sample": sample})
    return metric.measure(None, [case])[0]


def test_the_metric_is_the_game_with_and_without_smoothing() -> None:
    values = np.random.default_rng(2).normal(size=(6, 10))
    plain, smooth = METRICS.get("grid_pointing")(), read_metric("grid_pointing:smooth=3")[1]
    for tile in range(4):
        found = judged(plain, values, tile)
        assert (found.value, found.chance) == (grid_pointing(pixel_map(values), tile, SIDE), 0.25)
        assert judged(smooth, values, tile).value == grid_pointing(
            pixel_map(values), tile, SIDE, smooth=3
        )
    squared = judged(plain, one_tile(1) + 1, 1).value
    assert judged(plain, (one_tile(1) + 1) ** 2, 1).value > squared
    for wrong in (2, -3):
        with pytest.raises(ConfigError, match="odd number"):
            read_metric(f"grid_pointing:smooth={wrong}")


def test_drawn_mosaics_hold_distinct_classes_drawn_evenly() -> None:
    classes = ["a"] * 30 + ["b", "c", "d", "e"]
    every = list(drawn(classes, SIDE, limit=200))
    assert all(len({classes[photo] for photo in each.photos}) == 4 for each in every)
    assert len({frozenset(each.photos) for each in every}) == len(every) == 4 * 30 + 1
    few = list(drawn(classes, SIDE, limit=20))
    assert few == every[:20] != list(drawn(classes, SIDE, seed=1, limit=20))
    places = np.array([[classes[photo] for photo in each.photos] for each in every])
    assert all(len(set(column)) == 5 for column in places.T)


def test_fewer_classes_than_tiles_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 classes do not fill a mosaic of 2 x 2"):
        list(drawn("aabbc", SIDE))


def test_a_choice_of_photos_comes_in_as_many_orders_as_are_allowed() -> None:
    once = list(drawn("abcd", SIDE, limit=50))
    assert len(once) == 1
    several = list(drawn("abcd", SIDE, limit=50, orders=5))
    assert len({mosaic.photos for mosaic in several}) == len(several) == 5
    assert several[0] == once[0]
    assert len(list(drawn("abcd", SIDE, limit=3, orders=5))) == 3
    assert len(list(drawn("abcd", SIDE, limit=50, orders=50))) == 24
