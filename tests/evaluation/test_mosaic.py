"""Mosaics and the grid pointing game against known answers and a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visattn.errors import ConfigError
from visattn.evaluation.mosaic import grid_pointing, mosaics, pointed, tiles_of
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
