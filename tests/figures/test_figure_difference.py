"""Difference maps: cells of one photo, on one grid, minus each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visattn.errors import ConfigError
from visattn.figures import aligned, arranged, difference, figure, with_differences
from visattn.figures.shared_scale import MINUS
from visattn.saliency import Target

ONE = np.arange(12, dtype=np.float32).reshape(3, 4)
OTHER = ONE[::-1].copy()


def test_maps_of_one_method_are_subtracted_raw(make_map: Any) -> None:
    found = difference(
        make_map(ONE, target=Target(1, "tabby", 0.5)),
        make_map(OTHER, target=Target(2, "dog", 0.25)),
    )
    assert np.array_equal(found.grid, ONE - OTHER)
    assert found.signed
    assert found.default_normalization == "symmetric"
    assert found.provenance["difference"]["scaling"] == "raw"
    assert found.method == f"difference tabby {MINUS} dog"


def test_maps_of_two_methods_are_subtracted_as_shares(make_map: Any) -> None:
    found = difference(make_map(ONE), make_map(100 * OTHER, method="layercam"))
    assert found.grid == pytest.approx(ONE / ONE.sum() - OTHER / OTHER.sum(), abs=1e-6)
    assert found.provenance["difference"]["scaled"].endswith("sum of its magnitudes")


def test_the_scaling_can_be_chosen(make_map: Any) -> None:
    found = difference(make_map(ONE), make_map(OTHER * 3), scaling="max")
    assert found.grid == pytest.approx(ONE / 11 - OTHER / 11, abs=1e-6)
    with pytest.raises(ConfigError, match="Did you mean 'mass'"):
        difference(make_map(ONE), make_map(OTHER), scaling="mas")


def test_two_checkpoints_are_told_apart(make_map: Any) -> None:
    first, second = make_map(ONE, source="checkpoint a.pth"), make_map(OTHER, source="b.pth")
    assert difference(first, second).method == f"difference a.pth {MINUS} b.pth"
    said = [text.get_text() for text in figure([first, second]).texts]
    assert {"a.pth", "b.pth"} <= set(said)


def test_a_map_minus_itself_has_no_signal(make_map: Any) -> None:
    assert difference(make_map(ONE), make_map(ONE)).no_signal == "all cells are zero"


def test_the_difference_from_a_map_without_signal_has_none(make_map: Any, silent: Any) -> None:
    found = difference(make_map(ONE), silent)
    assert found.no_signal == "layercam of vit_tiny has none (all cells are zero)"


def test_neither_has_the_difference_from_a_map_that_is_not_finite(make_map: Any) -> None:
    found = difference(make_map(np.full((2, 2), np.nan)), make_map(ONE))
    assert "4 of 4 cells are not finite" in str(found.no_signal)


def test_grids_of_two_sizes_meet_on_the_finer_one(make_map: Any) -> None:
    coarse = make_map(np.array([[0, 1], [2, 3]], np.float32))
    fine = make_map(np.kron(coarse.grid, np.ones((4, 4), np.float32)), method="layercam")
    values, geometry = aligned([coarse, fine])
    assert [each.shape for each in values] == [(8, 8)] * 2
    assert geometry == fine.geometry
    assert np.array_equal(values[1], fine.grid)
    assert values[0][0, 0] == 0
    assert values[0][-1, -1] == 3
    assert values[0][0, 3] == pytest.approx(0.375), "bilinear between centres"


def test_cells_that_one_map_did_not_see_are_cut_away(make_map: Any) -> None:
    whole = make_map(np.arange(60, dtype=np.float32).reshape(6, 10))
    part = make_map(np.ones((4, 4)), crop=0.7, method="layercam")
    values, geometry = aligned([whole, part])
    assert values[0].shape == values[1].shape == tuple(geometry.grid)
    assert not np.isnan(values).any()
    seen, kept = part.geometry.visible, geometry.cell_box(0, 0)
    assert kept.top + 5 >= seen.top
    assert kept.left + 5 >= seen.left
    row, col = round(kept.top / 10), round(kept.left / 10)
    assert values[0][0, 0] == whole.grid[row, col]


def test_only_maps_of_one_photo_are_compared(make_map: Any) -> None:
    with pytest.raises(ConfigError, match="photos of 100 x 60 and 60 x 100 pixels"):
        difference(make_map(ONE), make_map(ONE, size=(100, 60)))
    with pytest.raises(ConfigError, match="2 different photos"):
        difference(make_map(ONE), make_map(ONE, name="another"))


def test_a_third_column_shows_the_difference(make_map: Any) -> None:
    rows = [
        [make_map(grid, name=name, method=method) for grid, method in ((ONE, "a"), (OTHER, "b"))]
        for name in ("cat", "a dog")
    ]
    wide = with_differences(rows)
    assert [len(row) for row in wide] == [3, 3]
    said = [text.get_text() for text in figure(wide).texts]
    assert said.count(f"a {MINUS} b") == 1
    with pytest.raises(ConfigError, match="a row has 3"):
        with_differences(wide)


def test_a_single_line_of_one_photo_is_wrapped(make_map: Any) -> None:
    layers = [make_map(changed={"layers": layer}) for layer in range(8)]
    assert [len(row) for row in arranged([[each] for each in layers], 4)] == [4, 4]
    assert [len(row) for row in arranged([layers], 4)] == [4, 4]
    photos = [[make_map(name="x" * (index + 1))] for index in range(8)]
    assert arranged(photos, 4) == photos
