"""Scores of methods on planted scenes: those of the metrics by their short names."""

from __future__ import annotations

from typing import Any

import pytest

import visattn
from tests.evaluation.sums import SIZE, Sums, model_of
from visattn.errors import UnsupportedMethodError
from visattn.evaluation.metrics import METRICS as REGISTERED
from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.scoring import METRICS, scored

NAMES = {"energy": "energy_pointing", "pointing": "pointing_game"}


def scores_of(scene: Any, masks: Any, method: str = "saliency", **options: Any) -> list[Any]:
    return list(scored(model_of(Sums(masks)), [scene], method, **options))


@pytest.fixture
def scene() -> Any:
    scenes = PlantedEvidence(size=SIZE, objects=2).scenes(20)
    return next(scene for scene in scenes if scene.distractors.any())


@pytest.fixture
def masks(scene: Any) -> Any:
    return {label: scene.evidence(label) for label in scene.labels}


def test_its_metrics_are_the_registered_ones() -> None:
    for name, metric in METRICS.items():
        assert type(metric) is REGISTERED.get(NAMES.get(name, name))


def test_each_class_of_a_scene_has_a_score(scene: Any, masks: Any) -> None:
    scores = scores_of(scene, masks, cell=1)
    assert [(score.scene, score.label) for score in scores] == [
        (scene.index, label) for label in scene.labels
    ]
    for score in scores:
        assert set(score.metrics) == set(METRICS)
        assert score.metrics["energy"].value == pytest.approx(1)
        assert score.metrics["energy"].chance == pytest.approx(masks[score.label].mean())
        assert score.metrics["own_object"].value == pytest.approx(1)


def test_scenes_without_distractors_have_no_distractor_mass() -> None:
    scenes = PlantedEvidence(size=SIZE, difficulty="easy").scenes(20)
    bare = next(scene for scene in scenes if not scene.distractors.any())
    (score,) = scores_of(bare, {bare.label: bare.evidence()}, cell=1)
    assert set(score.metrics) == {"energy", "pointing", "rank_accuracy"}


def test_batches_change_nothing(scene: Any, masks: Any) -> None:
    one, two = (scores_of(scene, masks, batch_size=size) for size in (1, 8))
    assert [score.metrics for score in one] == [score.metrics for score in two]


def test_auto_and_options_decide_whether_a_class_is_explained(scene: Any, masks: Any) -> None:
    own = scores_of(scene, masks, "auto")
    named = scores_of(scene, masks, "gradcam")  # what auto stands for on such a network
    assert [score.metrics for score in own] == [score.metrics for score in named]


def test_methods_that_do_not_apply_raise(scene: Any) -> None:
    with pytest.raises(UnsupportedMethodError, match="gae does not apply"):
        list(scored(visattn.load_model("reference:cbam"), [scene], "gae"))
