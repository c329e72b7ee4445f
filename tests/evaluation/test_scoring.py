"""Scores of methods on planted scenes: a map with a known answer gets it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import visattn
from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.scoring import METRICS, scored
from visattn.images import Size
from visattn.models.reference import transform

SIZE = 64


class Sums(nn.Module):
    """Class k is the sum of all channels inside mask k, through a convolution that does nothing."""

    num_classes = 8

    def __init__(self, masks: dict[int, np.ndarray]) -> None:
        super().__init__()
        kernels = torch.zeros(8, SIZE, SIZE)
        for label, mask in masks.items():
            kernels[label] = torch.from_numpy(mask)
        self.register_buffer("kernels", kernels)
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.first.weight.data = torch.eye(3)[..., None, None]
        self.global_pool = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bcij,kij->bk", self.global_pool(self.first(x)), self.kernels)


def scores_of(scene, masks, method="saliency", **options):
    module = Sums(masks)
    model = visattn.load_model(module, transform=transform(Size(SIZE, SIZE)), image_size=SIZE)
    return list(scored(model, [scene], method, **options))


@pytest.fixture
def scene():
    scenes = PlantedEvidence(size=SIZE, objects=2).scenes(20)
    return next(scene for scene in scenes if scene.distractors.any())


def test_a_model_that_reads_the_evidence_gets_all_of_it(scene) -> None:
    masks = {label: scene.evidence(label) for label in scene.labels}
    scores = scores_of(scene, masks, cell=1)
    assert [score.label for score in scores] == list(scene.labels)
    for score in scores:
        assert set(score.metrics) == set(METRICS)
        assert score.metrics["energy"].value == pytest.approx(1)
        assert score.metrics["rank_accuracy"].value == pytest.approx(1)
        assert score.metrics["pointing"].value == 1
        assert score.metrics["own_object"].value == pytest.approx(1)
        assert score.metrics["energy"].chance == pytest.approx(masks[score.label].mean())
        overlap = (masks[score.label] & scene.distractors).sum() / masks[score.label].sum()
        assert score.metrics["distractor_mass"].value == pytest.approx(overlap)


def test_a_model_that_reads_the_other_object_gets_nothing(scene) -> None:
    first, second = scene.labels
    masks = {first: scene.evidence(second), second: scene.evidence(first)}
    for score in scores_of(scene, masks, cell=1):
        for name in ("energy", "pointing", "own_object"):
            assert score.metrics[name].value == 0, name
        # The other mask may be smaller: what is left of K is drawn from pixels of value zero.
        assert score.metrics["rank_accuracy"].value < score.metrics["rank_accuracy"].chance


def test_a_class_agnostic_map_splits_its_mass_between_the_objects(scene) -> None:
    masks = {label: scene.evidence(label) for label in scene.labels}
    scores = scores_of(scene, masks, "center")
    assert sum(score.metrics["own_object"].value for score in scores) == pytest.approx(1)


def test_scenes_without_distractors_have_no_distractor_mass() -> None:
    scenes = PlantedEvidence(size=SIZE, difficulty="easy").scenes(20)
    bare = next(scene for scene in scenes if not scene.distractors.any())
    (score,) = scores_of(bare, {bare.label: bare.evidence()}, cell=1)
    assert "distractor_mass" not in score.metrics
    assert "own_object" not in score.metrics


def test_batches_change_nothing(scene) -> None:
    masks = {label: scene.evidence(label) for label in scene.labels}
    one, two = (scores_of(scene, masks, batch_size=size) for size in (1, 8))
    assert [score.metrics for score in one] == [score.metrics for score in two]


def test_auto_and_options_decide_whether_a_class_is_explained(scene) -> None:
    masks = {label: scene.evidence(label) for label in scene.labels}
    own = scores_of(scene, masks, "auto")
    named = scores_of(scene, masks, "gradcam")  # what auto stands for on such a network
    assert [score.metrics for score in own] == [score.metrics for score in named]
