"""Metrics of localisation against loops written from their definitions, and known answers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from visattn.errors import ConfigError
from visattn.evaluation.localization import (
    energy_pointing,
    heat_ratio,
    own_object,
    rank_accuracy,
    roc_auc,
    unfit,
)
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics import HIGHER, LOWER, METRICS, read_metric
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.pointing import pointing_game, touched
from visattn.evaluation.sample import Excluded, Sample
from visattn.geometry import Affine, Geometry
from visattn.images import Image, Size
from visattn.models import Prepared
from visattn.saliency import SaliencyMap

SCORES = (energy_pointing, rank_accuracy, pointing_game, heat_ratio, roc_auc)


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


@pytest.mark.parametrize("metric", SCORES)
def test_the_mask_itself_scores_one_and_its_opposite_nothing(metric) -> None:
    _, mask = tied(0)
    assert metric(pixel_map(mask.astype(float)), mask).value == 1
    assert metric(pixel_map(1.0 - mask), mask).value == 0


@pytest.mark.parametrize("metric", SCORES)
def test_an_even_map_scores_chance(metric) -> None:
    _, mask = tied(1)
    found = metric(pixel_map(np.ones((6, 7))), mask)
    assert found.value == pytest.approx(found.chance)
    assert found.chance == pytest.approx(0.5 if metric is roc_auc else mask.mean())


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


@pytest.mark.parametrize("metric", SCORES)
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


@pytest.mark.parametrize("seed", range(4))
def test_the_roc_area_is_the_share_of_pairs_in_the_right_order(seed: int) -> None:
    values, mask = tied(seed)
    pairs = [
        (values[a] > values[b]) + (values[a] == values[b]) / 2
        for a in np.ndindex(6, 7)
        for b in np.ndindex(6, 7)
        if mask[a] and not mask[b]
    ]
    assert roc_auc(pixel_map(values), mask).value == pytest.approx(np.mean(pairs))


def quantile(values: list[float], q: float) -> float:
    """Linear between the two nearest ranks."""
    ordered = sorted(values)
    low = int(q * (len(ordered) - 1))
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (q * (len(ordered) - 1) - low) * (ordered[high] - ordered[low])


def expected_heat_ratio(values: np.ndarray, mask: np.ndarray) -> float:
    heat = {place: max(values[place], 0) / values.max() for place in np.ndindex(values.shape)}
    heat = {place: value if value >= 0.1 else 0.0 for place, value in heat.items()}
    ratios = []
    for step in range(11):
        threshold = min(quantile([v for v in heat.values() if v > 0], step / 10), 0.99)
        chosen = [place for place, value in heat.items() if value >= threshold]
        ratios.append(sum(heat[place] for place in chosen if mask[place]) / len(chosen))
    return sum((a + b) / 20 for a, b in pairwise(ratios))


@pytest.mark.parametrize("seed", range(4))
def test_the_heat_ratio_is_its_definition(seed: int) -> None:
    _, mask = tied(seed)
    values = np.random.default_rng(seed).normal(size=(6, 7)).round(1)
    expected = expected_heat_ratio(values.astype(np.float32).astype(float), mask)
    assert heat_ratio(pixel_map(values), mask).value == pytest.approx(expected)


def test_values_below_a_tenth_of_the_maximum_are_no_heat() -> None:
    mask = np.zeros((2, 4), bool)
    mask[0, 0] = True
    faint = np.full((2, 4), 0.09)
    faint[0, 0] = 1
    assert heat_ratio(pixel_map(faint), mask).value == 1
    assert heat_ratio(pixel_map(faint + 0.02), mask).value < 1
    assert heat_ratio(pixel_map(-faint), mask).value == mask.mean()


def test_what_is_nearly_the_maximum_counts_at_the_highest_threshold() -> None:
    mask = np.zeros((2, 3), bool)
    mask[0, 1] = True
    values = np.array([[1, 0.995, 0.5], [0.3, 0.2, 0]])
    expected = expected_heat_ratio(values.astype(np.float32).astype(float), mask)
    assert heat_ratio(pixel_map(values), mask).value == pytest.approx(expected)


def test_a_mask_of_everything_has_no_roc_curve() -> None:
    with pytest.raises(ConfigError, match="covers everything"):
        roc_auc(pixel_map(np.ones((2, 3))), np.ones((2, 3), bool))


def test_the_own_object_gets_its_share_of_the_mass_on_objects() -> None:
    own, others = np.zeros((3, 6), bool), np.zeros((3, 6), bool)
    own[0, :2] = others[2, 1:5] = True
    values = np.zeros((3, 6))
    values[0, 0], values[2, 2], values[1, 1] = 3, 1, 100
    found = own_object(pixel_map(values), own, others)
    assert (found.value, found.chance) == (pytest.approx(3 / 4), pytest.approx(2 / 6))
    elsewhere = np.zeros((3, 6))
    elsewhere[1, 1] = 1
    assert own_object(pixel_map(elsewhere), own, others).value == pytest.approx(2 / 6)


@pytest.mark.parametrize("tolerance", [0, 2, 3, 7.5])
def test_a_tolerance_is_a_distance_in_pixels_of_the_photo(tolerance: float) -> None:
    mask = np.zeros((12, 20), bool)
    mask[5:7, 10:12] = True
    shares = []
    for cell in np.ndindex(3, 5):
        values = np.zeros((3, 5))
        values[cell] = 1
        value = pointing_game(cell_map(values, 4), mask, tolerance).value
        pixel = np.array(cell) * 4 + 2  # the one below the centre, which lies between four
        distances = [np.hypot(*(pixel - place)) for place in np.argwhere(mask)]
        assert value == (min(distances) <= tolerance), cell
        shares.append(value)
    assert pointing_game(cell_map(values, 4), mask, tolerance).chance == np.mean(shares)


def test_masks_that_say_nothing_have_their_reason() -> None:
    found = cropped()
    mask = np.zeros((8, 20), bool)
    assert unfit(found, mask) == "empty mask"
    mask[:, :3] = True
    assert unfit(found, mask) == "mask outside what the model sees"
    mask[:, 6] = True
    assert unfit(found, mask) is None
    mask[:, 6:14] = True
    assert unfit(found, mask) == "mask covers everything the model sees"


LOCATED = [name for name in METRICS.names() if issubclass(METRICS.get(name), Located)]


def sample_of(**masks: np.ndarray) -> Sample:
    (size,) = {mask.shape for mask in masks.values()}
    image = Image(np.zeros((*size, 3), np.uint8))
    return Sample("one", Prepared(image, torch.zeros(3, *size), Geometry.plain(Size(*size))),
                  masks=masks)  # fmt: skip


def verdict_of(name: str, values: np.ndarray, **masks: np.ndarray):
    metric = METRICS.get(name)()
    assert isinstance(metric, Located)
    sample = sample_of(**masks)
    assert metric.lacks(sample) is None
    return metric.verdict(pixel_map(values), sample)


def three_masks() -> dict[str, np.ndarray]:
    """Evidence, distractors and others of 24 x 28 pixels, in stripes."""
    masks = {name: np.zeros((24, 28), bool) for name in ("evidence", "distractors", "others")}
    for place, mask in enumerate(masks.values()):
        mask[4:20, 2 + 9 * place : 8 + 9 * place] = True
    return masks


@pytest.mark.parametrize("name", LOCATED)
def test_the_mask_itself_is_better_than_chance_and_its_opposite_is_not(name: str) -> None:
    masks = three_masks()
    kind = METRICS.get(name)
    own = masks["distractors" if name == "distractor_mass" else "evidence"].astype(float)
    one, opposite = (verdict_of(name, values, **masks) for values in (own, 1 - own))
    assert kind.better == (LOWER if name == "distractor_mass" else HIGHER)
    best = 1 / own.mean() if name == "energy_ratio" else 1
    assert one.value == pytest.approx(best)
    assert opposite.value < one.value
    if one.chance is not None:
        assert opposite.value <= one.chance < one.value


@pytest.mark.parametrize("name", LOCATED)
def test_masks_without_a_statement_are_excluded_by_name(name: str) -> None:
    masks = three_masks()
    values = np.random.default_rng(0).random((24, 28))
    need = METRICS.get(name).needs[0]
    before = "" if need == "evidence" else f"{need}: "
    empty = {**masks, need: np.zeros((24, 28), bool)}
    assert verdict_of(name, values, **empty) == Excluded(f"{before}empty mask")
    whole = {**masks, need: np.ones((24, 28), bool)}
    reason = f"{before}mask covers everything the model sees"
    assert verdict_of(name, values, **whole) == Excluded(reason)
    rest = {key: mask for key, mask in masks.items() if key != need}
    assert METRICS.get(name)().lacks(sample_of(**rest)) == f"no {need}"


# The best threshold moves with the map: only the ladder of thresholds stays where it is.
@pytest.mark.parametrize("name", [n for n in LOCATED if n != "segmentation_best_miou"])
def test_powers_of_a_pixel_map_change_what_is_not_of_ranks(name: str) -> None:
    masks = three_masks()
    values = np.random.default_rng(1).random((24, 28)) + masks["evidence"] / 3
    one, other = (verdict_of(name, values**power, **masks) for power in (1, 3))
    assert isinstance(one, Measured)
    assert (one.value == pytest.approx(other.value, abs=1e-9)) == METRICS.get(name).rank_only


def test_the_ratio_is_the_energy_over_the_area() -> None:
    masks = three_masks()
    values = np.random.default_rng(2).random((24, 28))
    ratio = verdict_of("energy_ratio", values, **masks)
    energy = energy_pointing(pixel_map(values), masks["evidence"])
    assert ratio.value == pytest.approx(energy.value / masks["evidence"].mean())
    assert ratio.chance == 1


def test_a_cell_on_the_edges_of_tiles_counts_for_one_of_them() -> None:
    """The middle of an odd grid touches all four tiles of a mosaic, and points at one at most."""
    cells, hits, chances = np.zeros((7, 7)), [], []
    cells[3, 3] = 1
    for tile in range(4):
        mask = np.zeros((28, 28), bool)
        mask[tile // 2 * 14 :, tile % 2 * 14 :][:14, :14] = True
        sample = sample_of(evidence=mask)
        metric = METRICS.get("pointing_game")()
        assert metric.verdict(cell_map(cells, 4), sample).value == 1
        found = metric.verdict(cell_map(cells, 4), replace(sample, tile=(tile, 2)))
        hits.append(found.value)
        chances.append(found.chance)
    assert sum(hits) == 1
    assert sum(chances) == pytest.approx(1)


def test_the_tolerance_is_an_option() -> None:
    label, metric = read_metric("pointing_game:tolerance=15")
    assert label == "pointing_game:tolerance=15"
    masks = three_masks()
    values = np.zeros((24, 28))
    values[0, 27] = 1  # 20 pixels right of the evidence, 4 above
    assert metric.verdict(pixel_map(values), sample_of(**masks)).value == 0
    values[0, 21] = 2
    assert metric.verdict(pixel_map(values), sample_of(**masks)).value == 1
    assert METRICS.get("pointing_game")().verdict(pixel_map(values), sample_of(**masks)).value == 0
    for wrong in ("-1", "True", "'near'"):
        with pytest.raises(ConfigError, match="not a number of pixels"):
            read_metric(f"pointing_game:tolerance={wrong}")
