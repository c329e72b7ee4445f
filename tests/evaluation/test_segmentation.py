"""The segmentation test against loops over pixels, scikit-learn and known answers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from visattn.errors import ConfigError
from visattn.evaluation.metrics import METRICS, read_metric
from visattn.evaluation.precision import average_precision
from visattn.evaluation.sample import Excluded, Sample
from visattn.evaluation.segmentation import on_input
from visattn.geometry import Affine, Geometry
from visattn.images import Image, Size
from visattn.models import Prepared
from visattn.saliency import SaliencyMap

SIZE = Size(6, 7)


def case(seed: int, size: Size = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return values with ties and a mask."""
    random = np.random.default_rng(seed)
    mask = random.random(size) < 0.3
    mask[0, 0], mask[1, 1] = True, False
    return random.integers(-2, 5, size) + 2.0 * mask, mask


def found_of(values: np.ndarray) -> SaliencyMap:
    return SaliencyMap(values, Geometry.plain(Size(*values.shape)), "test", "test")


def sample_of(mask: np.ndarray, geometry: Geometry | None = None) -> Sample:
    own = geometry or Geometry.plain(Size(*mask.shape))
    image = Image(np.zeros((*mask.shape, 3), np.uint8))
    return Sample("one", Prepared(image, torch.zeros(3, *own.input), own), masks={"evidence": mask})


def verdict(spec: str, values: np.ndarray, mask: np.ndarray):
    _, metric = read_metric(spec)
    return metric.verdict(found_of(values), sample_of(mask))


def tally(chosen: np.ndarray, mask: np.ndarray) -> tuple[int, int, int, int, int]:
    """Intersection and union of the object, of the background, and right pixels."""
    counts = [0, 0, 0, 0, 0]
    for place in np.ndindex(mask.shape):
        a, b = bool(chosen[place]), bool(mask[place])
        counts[0] += a and b
        counts[1] += a or b
        counts[2] += not a and not b
        counts[3] += not (a and b)
        counts[4] += a == b
    return tuple(counts)


def iou(*tallies: tuple[int, int, int, int, int]) -> float:
    both, either, neither, not_both, _ = (sum(column) for column in zip(*tallies, strict=True))
    return (both / either + neither / not_both) / 2


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_threshold_is_its_definition(seed: int) -> None:
    values, mask = case(seed)
    counted = tally(values > values.mean(), mask)
    assert verdict("segmentation_accuracy", values, mask).value == pytest.approx(counted[4] / 42)
    assert verdict("segmentation_miou", values, mask).value == pytest.approx(iou(counted))
    background = 1 - mask.mean()
    assert verdict("segmentation_accuracy", values, mask).chance == pytest.approx(background)
    assert verdict("segmentation_miou", values, mask).chance == pytest.approx(background / 2)


def test_what_is_at_the_mean_is_background() -> None:
    values, mask = np.tile([0.0, 1, 2], (2, 1)), np.tile([False, True, False], (2, 1))
    assert verdict("segmentation_accuracy", values, mask).value == pytest.approx(1 / 3)


def test_an_even_map_calls_everything_background() -> None:
    _, mask = case(0)
    even, background = np.full(SIZE, 0.5), 1 - mask.mean()
    assert verdict("segmentation_accuracy", even, mask).value == pytest.approx(background)
    assert verdict("segmentation_miou", even, mask).value == pytest.approx(background / 2)


@pytest.mark.parametrize("name", ["segmentation_accuracy", "segmentation_miou"])
def test_a_data_set_is_its_counts_and_not_the_mean_of_its_images(name: str) -> None:
    cases = [case(5), case(6), case(7)]
    verdicts = [verdict(name, *each) for each in cases]
    counted = [tally(values > values.mean(), mask) for values, mask in cases]
    whole = sum(each[4] for each in counted) / (3 * 42) if "acc" in name else iou(*counted)
    metric = METRICS.get(name)()
    parts = np.array([each.parts for each in verdicts])
    assert metric.aggregate(parts) == pytest.approx(whole)
    resampled = metric.aggregate(parts[[[0, 1, 2], [1, 1, 1]]])
    assert resampled == pytest.approx([whole, verdicts[1].value])
    if name == "segmentation_miou":
        assert whole != pytest.approx(np.mean([each.value for each in verdicts]))


@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_is_one_for_the_data_set(seed: int) -> None:
    cases = [case(3 * seed + each) for each in range(3)]
    _, metric = read_metric("segmentation_best_miou:steps=8")
    verdicts = [metric.verdict(found_of(values), sample_of(mask)) for values, mask in cases]
    scaled = [((v - v.min()) / (v.max() - v.min()), mask) for v, mask in cases]
    whole = max(iou(*[tally(v >= t / 8, mask) for v, mask in scaled]) for t in range(9))
    alone = [max(iou(tally(v >= t / 8, mask)) for t in range(9)) for v, mask in scaled]
    parts = np.array([each.parts for each in verdicts])
    assert [each.value for each in verdicts] == pytest.approx(alone)
    assert metric.aggregate(parts) == pytest.approx(whole)
    assert metric.aggregate(parts[[[2, 0, 1], [1, 1, 1]]]) == pytest.approx([whole, alone[1]])
    assert whole <= np.mean(alone) + 0.1


def test_the_best_threshold_finds_a_map_whose_mean_does_not_cut_it() -> None:
    _, mask = case(1)
    values = mask * 1.0
    values[~mask] = np.linspace(0, 0.95, int((~mask).sum()))
    assert verdict("segmentation_miou", values, mask).value < 0.8
    assert verdict("segmentation_best_miou", values, mask).value == 1


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_is_that_of_scikit_learn_with_ties(seed: int) -> None:
    values, mask = case(seed)
    expected = average_precision_score(mask.ravel(), values.ravel())
    assert average_precision(values.ravel(), mask.ravel()) == pytest.approx(expected)
    assert verdict("segmentation_ap", values, mask).value == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(4))
def test_the_published_precision_ranks_both_classes_together(seed: int) -> None:
    values, mask = case(seed)
    scaled = (values - values.min()) / (values.max() - values.min())
    together = average_precision_score(
        np.stack([~mask, mask]).ravel(), np.stack([1 - scaled, scaled]).ravel()
    )
    assert verdict("segmentation_map", values, mask).value == pytest.approx(together)


def test_chance_of_precision_is_what_tied_pixels_get() -> None:
    _, mask = case(2)
    even = np.zeros(42)
    assert average_precision(even, mask.ravel()) == pytest.approx(mask.mean())
    both = np.concatenate([~mask.ravel(), mask.ravel()])
    assert average_precision(np.full(84, 0.5), both) == pytest.approx(0.5)
    assert verdict("segmentation_ap", case(2)[0], mask).chance == pytest.approx(mask.mean())


def test_precision_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="something to be found"):
        average_precision(np.arange(3.0), np.zeros(3, bool))


def test_the_mask_is_read_at_the_pixels_of_the_input() -> None:
    # The model saw rows 2 to 10 of the photo at half its size, in a frame of one input pixel.
    geometry = Geometry(
        Size(3, 4), Size(6, 8), Size(12, 12), Affine((2.0, 2.0)), Affine((2.0, 2.0), (0.0, -2.0))
    )
    mask = np.random.default_rng(0).random((12, 12)) < 0.5
    found = SaliencyMap(np.arange(12.0).reshape(3, 4), geometry, "test", "test")
    values, inside = on_input(found, mask)
    spread = found.on_input()
    expected = [
        (spread[row, col], mask[2 * row + 1, 2 * col - 1])
        for row, col in product(range(6), range(8))
        if 0 <= 2 * col - 1 < 12
    ]
    heights = np.array([value for value, _ in expected])
    assert values == pytest.approx((heights - heights.min()) / np.ptp(heights))
    assert inside.tolist() == [truth for _, truth in expected]


@pytest.mark.parametrize("name", [n for n in METRICS.names() if n.startswith("segmentation_")])
def test_masks_between_the_pixels_of_the_input_are_excluded(name: str) -> None:
    geometry = Geometry(Size(3, 3), Size(3, 3), Size(12, 12), Affine(), Affine((4.0, 4.0)))
    mask = np.zeros((12, 12), bool)
    mask[0, 0] = True
    found = SaliencyMap(np.arange(9.0).reshape(3, 3), geometry, "test", "test")
    reason = "mask between the pixels of the input"
    assert METRICS.get(name)().verdict(found, sample_of(mask, geometry)) == Excluded(reason)
    mask[:] = True
    mask[0, 0] = False
    covering = "mask covers everything the model sees"
    assert METRICS.get(name)().verdict(found, sample_of(mask, geometry)) == Excluded(covering)


def test_less_than_one_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="steps=0"):
        read_metric("segmentation_best_miou:steps=0")


def test_the_best_threshold_follows_a_monotone_transform_as_far_as_the_ladder_goes() -> None:
    _, mask = case(4)
    values = 0.5 * mask
    values[0, 0] = 1
    assert mask.sum() > 2
    fine = [verdict("segmentation_best_miou", values**p, mask).value for p in (1, 4)]
    coarse = [verdict("segmentation_best_miou:steps=2", values**p, mask).value for p in (1, 4)]
    assert fine == [1, 1]
    assert coarse[0] == 1 > coarse[1]
