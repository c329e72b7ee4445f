"""Metrics of localisation against loops written from their definitions, and known answers."""

from __future__ import annotations

import numpy as np
import pytest

from visattn.errors import ConfigError
from visattn.evaluation.localization import energy_pointing, rank_accuracy
from visattn.evaluation.pointing import pointing_game, touched
from visattn.geometry import Affine, Geometry
from visattn.images import Size
from visattn.saliency import SaliencyMap

METRICS = (energy_pointing, rank_accuracy, pointing_game)


def pixel_map(values: np.ndarray) -> SaliencyMap:
    return SaliencyMap(values, Geometry.plain(Size(*values.shape)), "test", "test")


def cell_map(values: np.ndarray, cell: int) -> SaliencyMap:
    size = Size(values.shape[0] * cell, values.shape[1] * cell)
    geometry = Geometry.plain(size).with_grid(Size(*values.shape))
    return SaliencyMap(values, geometry, "test", "test")


def tied(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    mask = random.random((6, 7)) < 0.3
    mask[2, 3] = True
    return random.integers(-2, 4, (6, 7)).astype(np.float64), mask


def expected_rank_accuracy(values: np.ndarray, mask: np.ndarray) -> float:
    """The mean over many random orders of tied pixels."""
    random, count = np.random.default_rng(0), int(mask.sum())
    hits = []
    for _ in range(4000):
        order = np.lexsort((random.random(values.size), -values.ravel()))
        hits.append(mask.ravel()[order[:count]].sum() / count)
    return float(np.mean(hits))


@pytest.mark.parametrize("seed", range(4))
def test_metrics_are_their_definitions(seed: int) -> None:
    values, mask = tied(seed)
    found = pixel_map(values)
    inside = total = 0.0
    best, hits = [], 0
    for row in range(6):
        for col in range(7):
            total += max(values[row, col], 0)
            inside += max(values[row, col], 0) * mask[row, col]
            if values[row, col] == values.max():
                best.append((row, col))
    hits = sum(bool(mask[place]) for place in best)
    assert energy_pointing(found, mask).value == pytest.approx(inside / total)
    assert pointing_game(found, mask).value == pytest.approx(hits / len(best))
    expected = expected_rank_accuracy(values, mask)
    assert rank_accuracy(found, mask).value == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("metric", METRICS)
def test_the_mask_itself_scores_one_and_its_opposite_nothing(metric) -> None:
    _, mask = tied(0)
    assert metric(pixel_map(mask.astype(float)), mask).value == 1
    assert metric(pixel_map(1.0 - mask), mask).value == 0


@pytest.mark.parametrize("metric", METRICS)
def test_an_even_map_scores_chance(metric) -> None:
    _, mask = tied(1)
    found = metric(pixel_map(np.ones((6, 7))), mask)
    assert found.value == pytest.approx(found.chance)
    assert found.chance == pytest.approx(mask.mean())


def test_a_map_without_positive_values_has_the_energy_of_chance() -> None:
    _, mask = tied(2)
    found = energy_pointing(pixel_map(-np.ones((6, 7))), mask)
    assert found.value == found.chance


def test_ranks_and_pointing_ignore_monotone_transforms_and_energy_does_not() -> None:
    values, mask = tied(3)
    one, other = pixel_map(np.exp(values)), pixel_map(np.exp(3 * values))
    assert rank_accuracy(one, mask) == rank_accuracy(other, mask)
    assert pointing_game(one, mask) == pointing_game(other, mask)
    assert energy_pointing(one, mask).value != energy_pointing(other, mask).value


def test_a_cell_is_hit_where_it_holds_a_pixel_of_the_mask() -> None:
    mask = np.zeros((12, 20), bool)
    mask[5, 11] = True  # the cell in row 1, column 2 of cells of 4 pixels
    cells = np.zeros((3, 5))
    assert np.argwhere(touched(cell_map(cells, 4), mask)).tolist() == [[1, 2]]
    cells[1, 2] = 1
    assert pointing_game(cell_map(cells, 4), mask).value == 1
    assert pointing_game(cell_map(cells, 4), mask).chance == pytest.approx(1 / 15)
    cells[1, 3] = 2
    assert pointing_game(cell_map(cells, 4), mask).value == 0


def test_cells_smaller_than_pixels_are_hit_where_their_centre_lies_in_the_mask() -> None:
    mask = np.zeros((4, 6), bool)
    mask[:, :3] = True
    fine = np.zeros((12, 18))
    fine[5, 4] = 1
    geometry = Geometry.plain(Size(4, 6)).with_grid(Size(12, 18))
    found = pointing_game(SaliencyMap(fine, geometry, "test", "test"), mask)
    assert (found.value, found.chance) == (1, 0.5)


def cropped() -> SaliencyMap:
    """A photo of 8 x 20 pixels of which the model saw columns 6 to 14, in cells of 4 x 4."""
    geometry = Geometry(
        Size(2, 2), Size(8, 8), Size(8, 20), Affine((4.0, 4.0)), Affine((1.0, 1.0), (0.0, 6.0))
    )
    return SaliencyMap(np.array([[0.0, 3.0], [1.0, 0.0]]), geometry, "test", "test")


def test_pixels_that_the_model_did_not_see_are_left_out() -> None:
    mask = np.zeros((8, 20), bool)
    mask[0:4, 10:20] = True
    found = cropped()
    assert np.argwhere(touched(found, mask)).tolist() == [[0, 1]]
    assert energy_pointing(found, mask).chance == pytest.approx(16 / 64)
    assert pointing_game(found, mask).value == 1


@pytest.mark.parametrize("metric", METRICS)
def test_bad_masks_and_maps_are_refused(metric) -> None:
    values, mask = tied(0)
    with pytest.raises(ConfigError, match="mask is 7 x 6, the photo 6 x 7"):
        metric(pixel_map(values), mask.T)
    with pytest.raises(ConfigError, match="None of the 0 pixels"):
        metric(pixel_map(values), np.zeros_like(mask))
    unseen = np.zeros((8, 20), bool)
    unseen[:, :3] = True
    with pytest.raises(ConfigError, match="None of the 24 pixels of the mask was seen"):
        metric(cropped(), unseen)
    values[0, 0] = np.nan
    with pytest.raises(ConfigError, match="not finite"):
        metric(pixel_map(values), mask)
