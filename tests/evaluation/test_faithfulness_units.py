"""Units of removal: patches, squares, ragged borders, relevance, ties."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import visattn
from visattn.errors import ConfigError
from visattn.evaluation.removal import ALL, NOTHING, Band, after, least, most
from visattn.evaluation.units import Units, ranks
from visattn.geometry import Affine, Geometry
from visattn.images import Size
from visattn.saliency import SaliencyMap


def shown(grid: np.ndarray, size: Size, cell: tuple[float, float] | None = None) -> SaliencyMap:
    geometry = Geometry.plain(size).with_grid(Size(*grid.shape), cell)
    return SaliencyMap(grid, geometry, "test", "test")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def loop_means(units: Units, values: np.ndarray) -> list[float]:
    return [
        float(np.mean(values[top:bottom, left:right], dtype=np.float64))
        for top, bottom in pairwise(units.rows)
        for left, right in pairwise(units.cols)
    ]


@pytest.mark.parametrize("side", [1, 4, 5, 16])
def test_squares_cover_the_input_once_and_the_last_are_cut(side) -> None:
    units = Units.squares(Size(16, 22), side)
    assert units.rows[-1] == 16
    assert units.cols[-1] == 22
    assert units.areas.sum() == 16 * 22
    numbers = units.spread(np.arange(units.count))
    counted = [int((numbers == index).sum()) for index in range(units.count)]
    assert counted == units.areas.tolist()
    assert numbers[-1, -1] == units.count - 1


@pytest.mark.parametrize("side", [0, 17])
def test_squares_larger_than_the_input_are_refused(side) -> None:
    with pytest.raises(ConfigError, match=f"Units of {side} pixels do not fit an input of 16 x 22"):
        Units.squares(Size(16, 22), side)


def test_cells_of_the_map_keep_their_own_value() -> None:
    grid = noise(3, 5)
    units = Units.squares(Size(12, 20), 4)
    assert units.relevance(shown(grid, Size(12, 20))).tolist() == grid.ravel().tolist()
    # The mean of the bilinear map over the same squares is another number.
    assert not np.allclose(loop_means(units, shown(grid, Size(12, 20)).on_input()), grid.ravel())


def test_units_of_several_cells_have_their_mean() -> None:
    grid = noise(6, 10)
    found = Units.squares(Size(12, 20), 4).relevance(shown(grid, Size(12, 20)))
    expected = grid.reshape(3, 2, 5, 2).astype(float).mean(axis=(1, 3)).ravel()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_other_units_have_the_mean_of_the_bilinear_map(side) -> None:
    found = shown(noise(3, 5), Size(12, 20))
    units = Units.squares(Size(12, 20), side)
    np.testing.assert_allclose(
        units.relevance(found), loop_means(units, found.on_input()), rtol=1e-5, atol=1e-6
    )


def test_units_that_the_map_does_not_cover_have_no_relevance() -> None:
    found = shown(noise(2, 5), Size(16, 20), (4.0, 4.0))
    relevance = Units.squares(Size(16, 20), 4).relevance(found)
    assert np.isfinite(relevance).tolist() == [True] * 10 + [False] * 10


def test_a_rest_smaller_than_a_cell_belongs_to_the_last_one() -> None:
    geometry = Geometry.plain(Size(14, 20)).with_grid(Size(3, 5), (4.0, 4.0))
    cells = Units.cells(geometry)
    assert cells is not None
    assert cells.rows == (0, 4, 8, 14)


@pytest.mark.parametrize("cell", [(3.5, 4.0), (8.0, 4.0), (2.0, 4.0)])
def test_cells_that_are_no_partition_into_pixels_are_none(cell) -> None:
    assert Units.cells(Geometry.plain(Size(12, 20)).with_grid(Size(3, 5), cell)) is None
    moved = Geometry.plain(Size(12, 20)).with_grid(Size(3, 5))
    shifted = Geometry(moved.grid, moved.input, moved.original, Affine((4, 4), (2, 0)), Affine())
    assert Units.cells(shifted) is None


def test_units_of_a_transformer_are_its_patches_also_in_oblong_inputs() -> None:
    import timm

    module = timm.create_model(
        "vit_tiny_patch16_224", patch_size=(8, 4), img_size=(32, 24), depth=1, embed_dim=12,
        num_heads=1,
    )  # fmt: skip
    units = Units.of(visattn.load_model(module), Size(32, 24))
    assert units.shape == Size(4, 6)
    assert units.rows[:2] == (0, 8)
    assert units.cols[:2] == (0, 4)


@pytest.mark.parametrize(
    ("size", "side"),
    [((224, 224), 16), ((240, 300), 15), ((97, 101), 7), ((28, 42), 2), ((5, 7), 1)],
)
def test_units_of_other_models_are_a_fourteenth_of_the_shorter_side(size, side) -> None:
    model = visattn.load_model(nn.Conv2d(3, 2, 1))
    units = Units.of(model, Size(*size))
    assert (units.rows[1], units.cols[1]) == (side, side)
    assert Units.of(model, Size(*size), 3).rows[1] == 3


def test_the_most_relevant_unit_comes_first() -> None:
    units = Units.squares(Size(4, 6), 2)
    places = ranks(np.array([0.1, 0.5, -1, 3, 0, 2]), units, units, np.random.default_rng(0))
    assert places.tolist() == [3, 2, 5, 0, 4, 1]


def test_tied_pixels_go_patch_by_patch_in_an_order_that_depends_on_the_seed() -> None:
    pixels, patches = Units.squares(Size(8, 12), 1), Units.squares(Size(8, 12), 4)
    tied = np.zeros(pixels.count)
    orders = []
    for seed in range(6):
        places = ranks(tied, pixels, patches, np.random.default_rng(seed))
        assert sorted(places) == list(range(pixels.count))
        visited = pixels.inside(patches)[np.argsort(places)]
        assert all(len(set(part)) == 1 for part in visited.reshape(patches.count, 16))
        orders.append(tuple(visited[::16]))
        again = ranks(tied, pixels, patches, np.random.default_rng(seed))
        assert (again == places).all()
    assert len(set(orders)) > 3


def test_bands_are_shares_of_the_order_from_either_end() -> None:
    places = np.array([3, 2, 5, 0, 4, 1])
    half, third = Fraction(1, 2), Fraction(1, 3)
    assert most(half).of(places).tolist() == [False, True, False, True, False, True]
    assert least(third).of(places).tolist() == [False, False, True, False, True, False]
    assert after(half).of(places).tolist() == (~most(half).of(places)).tolist()
    assert Band(third, 2 * third).of(places).tolist() == [True, True, False] + [False] * 3
    assert most(Fraction(1)) == least(Fraction(1)) == after(Fraction(0)) == ALL
    assert most(Fraction(0)) == least(Fraction(0)) == after(Fraction(1)) == NOTHING


@pytest.mark.parametrize("count", range(1, 12))
def test_both_orders_remove_equally_many(count) -> None:
    places = np.arange(count)
    for share in (Fraction(k, 7) for k in range(8)):
        top, bottom = most(share).of(places), least(share).of(places)
        assert top.tolist() == bottom[::-1].tolist()


def test_spread_masks_have_the_size_of_the_input() -> None:
    units = Units.squares(Size(5, 7), 3)
    mask = torch.from_numpy(units.spread(np.arange(units.count) == 5))
    assert mask.shape == (5, 7)
    assert mask.nonzero().tolist() == [[3, 6], [4, 6]]
