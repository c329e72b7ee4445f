"""Deletion and insertion on a linear model, whose curve is known, and against a loop."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from visattn.errors import ConfigError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.saliency import SaliencyMap

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from evidence_curves import deletion, insertion, units

UNIT, ROWS, COLS = 2, 3, 5


def unit_map(values: np.ndarray) -> SaliencyMap:
    size = Size(ROWS * UNIT, COLS * UNIT)
    geometry = Geometry.plain(size).with_grid(Size(ROWS, COLS))
    return SaliencyMap(values, geometry, "test", "test")


def image(values: np.ndarray) -> torch.Tensor:
    """An image whose units each add their value to the sum of all pixels."""
    spread = np.kron(values / UNIT**2 / 3, np.ones((UNIT, UNIT)))
    return torch.from_numpy(spread)[None].repeat(3, 1, 1)


def total(batch: torch.Tensor) -> torch.Tensor:
    return batch.sum(dim=(1, 2, 3))


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).permutation(ROWS * COLS).reshape(ROWS, COLS).astype(float)


def test_units_go_from_the_most_relevant_to_the_least(values) -> None:
    pixels = SaliencyMap(
        np.kron(values, np.ones((UNIT, UNIT))),
        Geometry.plain(Size(ROWS * UNIT, COLS * UNIT)),
        "test",
        "test",
    )
    assert units(pixels, UNIT).tolist() == np.argsort(-values.ravel()).tolist()


def test_ties_come_in_an_order_that_depends_on_the_seed() -> None:
    even = unit_map(np.ones((ROWS, COLS)))
    assert units(even, UNIT).tolist() == units(even, UNIT).tolist()
    assert units(even, UNIT, seed=1).tolist() != units(even, UNIT).tolist()
    assert sorted(units(even, UNIT)) == list(range(ROWS * COLS))


def test_deletion_of_a_linear_model_is_the_sum_of_what_is_left(values) -> None:
    order = np.argsort(-values.ravel())
    curve = deletion(total, image(values), order, UNIT, steps=ROWS * COLS)
    left, expected = values.sum(), [values.sum()]
    for place in order:
        left -= values.ravel()[place]
        expected.append(left)
    np.testing.assert_allclose(curve.scores, expected, rtol=1e-12, atol=1e-9)
    heights = [(a + b) / 2 for a, b in pairwise(expected)]
    assert curve.area == pytest.approx(sum(heights) / len(heights))


def test_the_right_order_falls_fastest_and_rises_fastest(values) -> None:
    order = np.argsort(-values.ravel())
    areas = [
        [run(total, image(values), each, UNIT, steps=5).area for each in (order, order[::-1])]
        for run in (deletion, insertion)
    ]
    assert areas[0][0] < areas[0][1]
    assert areas[1][0] > areas[1][1]


def test_insertion_begins_blurred_and_ends_with_the_image(values) -> None:
    picture = image(values)
    curve = insertion(lambda b: b.amax(dim=(1, 2, 3)), picture, np.arange(ROWS * COLS), UNIT, 5)
    assert curve.scores[0] < curve.scores[-1] == pytest.approx(float(picture.max()))


def test_units_that_do_not_fill_the_input_are_refused(values) -> None:
    with pytest.raises(ConfigError, match="Units of 4 pixels do not fill an input of 6 x 10"):
        units(unit_map(values), 4)
