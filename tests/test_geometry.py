"""Geometry by position: where a cell lies on the photo, and what lies outside what was seen."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from visattn.geometry import Affine, Box, Geometry
from visattn.images import Size

LANDSCAPE, PORTRAIT = Size(60, 100), Size(100, 60)


def geometry(
    original: Size, size: Size, grid: Size, crop: float = 1.0, squash: bool = False
) -> Geometry:
    """Resize so that the input fits into the photo (or squash), then crop the centre."""
    ratio = [side / crop / have for side, have in zip(size, original, strict=True)]
    scale = ratio if squash else [max(ratio)] * 2
    offset = [(have - side / s) / 2 for have, side, s in zip(original, size, scale, strict=True)]
    back = Affine((1 / scale[0], 1 / scale[1]), (offset[0], offset[1]))
    return Geometry(size, size, original, Affine(), back).with_grid(grid)


CASES = [
    geometry(original, size, grid, crop, squash)
    for original in (LANDSCAPE, PORTRAIT)
    for size, grid in ((Size(32, 32), Size(4, 4)), (Size(24, 48), Size(3, 6)))
    for crop, squash in ((1.0, False), (0.8, False), (1.0, True))
]
each_case = pytest.mark.parametrize(
    "chain", CASES, ids=lambda g: f"{g.original[0]}x{g.original[1]}-{g.input[0]}x{g.input[1]}"
)


def one_hot(grid: Size, row: int, col: int) -> np.ndarray:
    values = np.zeros(grid, np.float32)
    values[row, col] = 1
    return values


def inside(box: Box, size: Size) -> np.ndarray:
    """Return which pixels of a picture have their centre in a box."""
    rows, cols = np.arange(size.height)[:, None] + 0.5, np.arange(size.width)[None] + 0.5
    return (rows > box.top) & (rows < box.bottom) & (cols > box.left) & (cols < box.right)


# Affine maps ------------------------------------------------------------------------------------


def test_an_affine_map_scales_then_shifts_each_axis() -> None:
    assert Affine((2.0, 3.0), (10.0, 20.0))(1, 1) == (12, 23)


@pytest.mark.parametrize("seed", range(5))
def test_inverse_undoes_and_then_composes_in_reading_order(seed: int) -> None:
    a, b, c, d, e, f, row, col = np.random.default_rng(seed).uniform(0.2, 5, 8)
    first, second = Affine((a, b), (c, -d)), Affine((e, f), (-a, b))
    assert first.then(second)(row, col) == pytest.approx(second(*first(row, col)))
    assert first.inverse()(*first(row, col)) == pytest.approx((row, col))
    assert first.then(first.inverse())(row, col) == pytest.approx((row, col))


# Positions ------------------------------------------------------------------------------------


@each_case
def test_every_cell_is_drawn_where_its_box_is(chain: Geometry) -> None:
    for row, col in itertools.product(range(chain.grid.height), range(chain.grid.width)):
        drawn = chain.on_original(one_hot(chain.grid, row, col), "nearest")
        assert np.array_equal(drawn == 1, inside(chain.cell_box(row, col), chain.original))


@each_case
def test_the_peak_of_a_smooth_map_lies_in_its_cell(chain: Geometry) -> None:
    for row, col in itertools.product(range(chain.grid.height), range(chain.grid.width)):
        drawn = chain.on_original(one_hot(chain.grid, row, col))
        peak = np.unravel_index(np.nanargmax(drawn), drawn.shape)
        assert inside(chain.cell_box(row, col), chain.original)[peak]


@each_case
def test_unseen_is_exactly_what_lies_outside_the_visible_box(chain: Geometry) -> None:
    for interpolation in ("nearest", "bilinear"):
        drawn = chain.on_original(np.ones(chain.grid, np.float32), interpolation)
        assert drawn.shape == chain.original
        assert drawn.dtype == np.float32
        assert np.array_equal(~np.isnan(drawn), inside(chain.visible, chain.original))
        assert np.nanmin(drawn) == pytest.approx(1, abs=1e-6)
        assert np.nanmax(drawn) == pytest.approx(1, abs=1e-6)


@each_case
def test_the_four_corner_cells_are_as_large_as_the_others(chain: Geometry) -> None:
    rows, cols = chain.grid
    boxes = [chain.cell_box(r, c) for r in (0, rows - 1) for c in (0, cols - 1)]
    sizes = {(round(b.bottom - b.top, 9), round(b.right - b.left, 9)) for b in boxes}
    assert len(sizes) == 1
    middle = chain.cell_box(rows // 2, cols // 2)
    assert (middle.bottom - middle.top, middle.right - middle.left) == pytest.approx(*sizes)
    assert boxes[0][:2] == pytest.approx(chain.visible[:2])
    assert boxes[3][2:] == pytest.approx(chain.visible[2:])


@each_case
def test_cell_at_is_the_inverse_of_cell_box(chain: Geometry) -> None:
    for row, col in itertools.product(range(chain.grid.height), range(chain.grid.width)):
        top, left, bottom, right = chain.cell_box(row, col)
        for share in (0.01, 0.5, 0.99):
            y, x = top + share * (bottom - top), left + share * (right - left)
            assert chain.cell_at(x, y) == (row, col)


@each_case
def test_pixels_that_the_model_did_not_see_have_no_cell(chain: Geometry) -> None:
    top, left, bottom, right = chain.visible
    outside = [(left - 1, top + 1), (left + 1, top - 1), (right, top + 1), (left + 1, bottom)]
    for x, y in outside:
        with pytest.raises(ValueError, match=r"did not see pixel \(x=.*it saw x"):
            chain.cell_at(x, y)


def test_the_last_visible_point_has_a_cell_whatever_the_rounding() -> None:
    generator = np.random.default_rng(3)
    for _ in range(500):
        sides = [int(v) for v in generator.integers(20, 900, 4)]
        original, size = Size(*sides[:2]), Size(*sides[2:])
        grid = Size(*map(int, generator.integers(1, 40, 2)))
        chain = geometry(original, size, grid, float(generator.uniform(0.5, 1)))
        box = chain.visible
        row, col = chain.cell_at(math.nextafter(box.right, 0), math.nextafter(box.bottom, 0))
        assert (row, col) == (grid.height - 1, grid.width - 1)
        assert chain.cell_at(box.left, box.top) == (0, 0)


def test_x_runs_along_columns_and_y_along_rows() -> None:
    chain = geometry(Size(40, 80), Size(40, 80), Size(4, 8))
    assert chain.cell_at(x=75, y=5) == (0, 7)
    assert chain.cell_box(0, 7) == Box(top=0, left=70, bottom=10, right=80)


@pytest.mark.parametrize(
    ("original", "size", "crop", "squash", "share"),
    [
        (LANDSCAPE, Size(32, 32), 1.0, False, 0.6),
        (PORTRAIT, Size(32, 32), 1.0, False, 0.6),
        (PORTRAIT, Size(32, 32), 0.5, False, 0.15),
        (PORTRAIT, Size(32, 32), 1.0, True, 1.0),
        (LANDSCAPE, Size(48, 80), 1.0, False, 1.0),
    ],
)
def test_visible_fraction(
    original: Size, size: Size, crop: float, squash: bool, share: float
) -> None:
    chain = geometry(original, size, Size(4, 4), crop, squash)
    assert chain.visible_fraction == pytest.approx(share)


def test_padding_belongs_to_the_input_and_not_to_the_photo() -> None:
    photo, size = Size(20, 40), Size(40, 40)
    chain = Geometry(size, size, photo, Affine(), Affine(offset=(-10.0, 0.0))).with_grid(Size(4, 4))
    assert chain.visible == Box(0, 0, 20, 40)
    assert chain.visible_fraction == 1
    drawn = chain.on_original(one_hot(chain.grid, 1, 3), "nearest")
    assert drawn.shape == (20, 40)
    assert np.array_equal(drawn, inside(Box(0, 30, 10, 40), photo))
    assert np.isfinite(drawn).all()


def test_input_beyond_the_last_cell_is_unseen() -> None:
    photo = Size(37, 45)
    chain = Geometry.plain(photo).with_grid(Size(4, 5), cell=(8.0, 8.0))
    assert chain.visible == Box(0, 0, 32, 40)
    for drawn in (chain.on_input(np.ones((4, 5))), chain.on_original(np.ones((4, 5)))):
        assert np.array_equal(~np.isnan(drawn), inside(Box(0, 0, 32, 40), photo))
    with pytest.raises(ValueError, match="did not see"):
        chain.cell_at(41, 3)


# Interpolation --------------------------------------------------------------------------------


def test_bilinear_meets_the_cells_at_their_centres_and_is_linear_between() -> None:
    chain = Geometry.plain(Size(9, 15)).with_grid(Size(3, 5))
    grid = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    drawn = chain.on_input(grid)
    assert drawn[1::3, 1::3] == pytest.approx(grid)
    assert drawn[1, 2] == pytest.approx(grid[0, 0] + (grid[0, 1] - grid[0, 0]) / 3)
    assert drawn[3, 1] == pytest.approx(grid[1, 0] + (grid[0, 0] - grid[1, 0]) / 3)
    assert drawn[0, 0] == grid[0, 0]


def test_bilinear_stays_between_the_smallest_and_the_largest_cell() -> None:
    grid = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    drawn = CASES[0].on_original(grid)
    assert np.nanmin(drawn) >= grid.min() - 1e-6
    assert np.nanmax(drawn) <= grid.max() + 1e-6


def test_nearest_shows_only_values_of_the_grid() -> None:
    grid = np.random.default_rng(1).normal(size=(4, 4)).astype(np.float32)
    drawn = CASES[0].on_original(grid, "nearest")
    assert set(np.unique(drawn[np.isfinite(drawn)])) == set(grid.ravel())


@pytest.mark.parametrize("cells", [Size(64, 96), Size(40, 30), Size(33, 50), Size(17, 25)])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_averaging_over_areas_keeps_the_mean(cells: Size, interpolation: str) -> None:
    grid = np.random.default_rng(2).uniform(size=cells).astype(np.float32)
    drawn = Geometry.plain(Size(16, 24)).with_grid(cells).on_input(grid, interpolation)
    assert drawn.mean() == pytest.approx(grid.mean(), rel=1e-5)


def test_averaging_takes_each_pixel_from_the_cells_under_it() -> None:
    grid = np.arange(24, dtype=np.float32).reshape(4, 6)
    drawn = Geometry.plain(Size(2, 2)).with_grid(Size(4, 6)).on_input(grid)
    assert drawn == pytest.approx(grid.reshape(2, 2, 2, 3).mean(axis=(1, 3)))


def test_a_single_hot_cell_does_not_vanish_when_the_photo_is_smaller_than_the_grid() -> None:
    chain = geometry(Size(8, 8), Size(64, 64), Size(64, 64))
    assert chain.on_original(one_hot(chain.grid, 21, 42)).max() == pytest.approx(1 / 64)


def test_an_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'cubic' is not one of \('bilinear', 'nearest'\)"):
        CASES[0].on_input(np.ones((4, 4)), "cubic")


def test_the_grid_is_left_alone() -> None:
    grid = np.arange(16, dtype=np.float32).reshape(4, 4)
    before = grid.copy()
    CASES[0].on_original(grid)[:] = 7
    CASES[0].on_input(grid)[:] = 7
    assert (grid == before).all()


# Storage --------------------------------------------------------------------------------------


@each_case
def test_json_keeps_every_digit(chain: Geometry) -> None:
    assert Geometry.from_dict(json.loads(json.dumps(chain.as_dict()))) == chain


def test_a_plain_geometry_changes_nothing() -> None:
    grid = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    chain = Geometry.plain(Size(5, 7))
    assert np.array_equal(chain.on_original(grid), grid)
    assert np.array_equal(chain.on_input(grid, "nearest"), grid)
    assert chain.visible_fraction == 1
