"""Localisation against quantus, where definitions coincide, and what it does where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visattn.evaluation.localization import energy_pointing, rank_accuracy, roc_auc
from visattn.evaluation.pointing import pointing_game
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.saliency import SaliencyMap

quantus = pytest.importorskip("quantus")
SIZE = (9, 12)
COUNT = 5


def batch(ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return maps and masks (image, 1, row, col)."""
    random = np.random.default_rng(3)
    values = random.random((COUNT, 1, *SIZE)).astype(np.float32)
    if ties:
        values = (values * 3).round()
    masks = random.random((COUNT, 1, *SIZE)) < 0.4
    return values, masks


def peer(kind: Any, values: np.ndarray, masks: np.ndarray, **options: Any) -> list[float]:
    """Scores of quantus on maps as they are: its own scaling takes one maximum for the batch."""
    metric = kind(abs=False, normalise=False, disable_warnings=True, **options)
    scores = metric(
        model=None,
        x_batch=np.zeros((COUNT, 1, *SIZE), np.float32),
        y_batch=np.zeros(COUNT, int),
        a_batch=values,
        s_batch=masks,
        channel_first=True,
    )
    return [float(score) for score in scores]


def ours(metric: Any, values: np.ndarray, masks: np.ndarray) -> list[float]:
    geometry = Geometry.plain(Size(*SIZE))
    return [
        metric(SaliencyMap(value[0], geometry, "test", "test"), mask[0]).value
        for value, mask in zip(values, masks, strict=True)
    ]


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (energy_pointing, "RelevanceMassAccuracy"),
        (rank_accuracy, "RelevanceRankAccuracy"),
        (roc_auc, "AUC"),
        (pointing_game, "PointingGame"),
    ],
)
def test_positive_maps_without_ties_agree(metric: Any, name: str) -> None:
    values, masks = batch()
    theirs = peer(getattr(quantus, name), values, masks)
    assert ours(metric, values, masks) == pytest.approx(theirs, abs=1e-5)
    assert 0 < np.mean(theirs) < 1


def test_rank_accuracy_is_the_top_intersection_of_as_many_pixels_as_the_mask() -> None:
    values, masks = batch()
    for index in range(COUNT):
        count = int(masks[index].sum())
        theirs = peer(quantus.TopKIntersection, values, masks, k=count)[index]
        assert ours(rank_accuracy, values, masks)[index] == pytest.approx(theirs)


def test_the_area_under_the_curve_agrees_with_ties_too() -> None:
    values, masks = batch(ties=True)
    assert ours(roc_auc, values, masks) == pytest.approx(peer(quantus.AUC, values, masks))


def test_any_tied_maximum_is_a_hit_there_and_a_share_here() -> None:
    # The paper asks for one point; of several that are as high, each is as likely.
    values, masks = batch(ties=True)
    theirs, own = peer(quantus.PointingGame, values, masks), ours(pointing_game, values, masks)
    assert theirs == [1.0] * COUNT
    shares = [mask[value == value.max()].mean() for value, mask in zip(values, masks, strict=True)]
    assert own == pytest.approx(shares)
    assert max(own) < 1


def test_tied_ranks_are_broken_by_place_there_and_by_expectation_here() -> None:
    # Of pixels that are as high the first come first there; here each is as likely.
    masks = np.zeros((COUNT, 1, *SIZE), bool)
    masks[:, :, -2:] = True
    values = np.full((COUNT, 1, *SIZE), 2, np.float32)
    values[:, :, 0, 0] = 1
    assert peer(quantus.RelevanceRankAccuracy, values, masks) != [pytest.approx(24 / 107)] * COUNT
    assert ours(rank_accuracy, values, masks) == pytest.approx([24 / 107] * COUNT)


def test_negative_mass_is_subtracted_there_and_left_out_here() -> None:
    # Wang et al. score maps that are not negative; a signed sum is no share and can be anything.
    values, masks = batch()
    signed = values - 0.45
    assert ours(energy_pointing, signed, masks) == pytest.approx(
        peer(quantus.RelevanceMassAccuracy, np.clip(signed, 0, None), masks), abs=1e-5
    )
    theirs = peer(quantus.RelevanceMassAccuracy, signed, masks)
    assert max(theirs) > 1 or min(theirs) < 0
