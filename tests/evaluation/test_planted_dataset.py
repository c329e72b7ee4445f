"""Planted scenes as a data set: what samples know, and models with a known answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import visattn
from tests.evaluation.sums import SIZE, Sums, model_of
from visattn.errors import ConfigError
from visattn.evaluation.bench import explained
from visattn.evaluation.datasets import open_dataset
from visattn.evaluation.datasets.planted import samples_of
from visattn.evaluation.metrics import METRICS
from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.sample import Excluded, Sample
from visattn.evaluation.trial import Trial
from visattn.images import Size, load_image
from visattn.models.reference import LABELS, transform


class Knows(nn.Module):
    """Gives each scene of a generator its own classes the highest scores; knows no others."""

    num_classes = 8

    def __init__(self, planted: PlantedEvidence, count: int, wrong: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.known = {}
        for scene in planted.scenes(count):
            tensor = transform(Size(SIZE, SIZE))(load_image(scene.image).pillow())
            scores = torch.zeros(8)
            scores[list(scene.labels)] = -1.0 if scene.index in wrong else 1.0
            self.known[tensor.double().sum().item()] = scores

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.known[each.double().sum().item()] for each in x])


def samples(spec: str, model: visattn.Model) -> list[Sample | Excluded]:
    return list(open_dataset(spec).samples(model))


def test_a_scene_has_one_sample_for_each_class_and_what_belongs_to_it() -> None:
    planted = PlantedEvidence(size=SIZE, objects=3)
    found = samples("planted?objects=3,count=4,right=False", model_of(Sums()))
    assert len(found) == 12
    for index, sample in enumerate(found):
        scene = planted.scene(index // 3)
        label = scene.labels[index % 3]
        assert (sample.target, sample.label, sample.group) == (label, label, f"scene {index // 3}")
        assert sample.name == f"scene {index // 3}, {LABELS[label]}"
        assert (sample.masks["evidence"] == scene.evidence(label)).all()
        others = [scene.evidence(each) for each in scene.labels if each != label]
        assert (sample.masks["others"] == (others[0] | others[1])).all()
        assert ("distractors" in sample.masks) == scene.distractors.any()
        assert (sample.prepared.image.pixels == scene.image).all()
    assert len({sample.name for sample in found}) == 12


def test_masks_that_a_scene_does_not_define_are_left_out() -> None:
    found = samples("planted?difficulty=easy,count=12,right=False", model_of(Sums()))
    bare = [sample for sample in found if "distractors" not in sample.masks]
    assert bare
    assert all(set(sample.masks) == {"evidence"} for sample in bare)
    assert METRICS.get("distractor_mass")().lacks(bare[0]) == "no distractors"
    assert METRICS.get("own_object")().lacks(bare[0]) == "no others"


def test_only_scenes_that_the_model_gets_right_are_kept() -> None:
    planted = PlantedEvidence(size=SIZE, objects=2)
    model = model_of(Knows(planted, 6, wrong=(1, 4)))
    found = samples("planted?objects=2,count=6", model)
    left_out = [each for each in found if isinstance(each, Excluded)]
    assert left_out == [Excluded("misclassified", f"scene {index}") for index in (1, 4)]
    kept = {each.group for each in found if isinstance(each, Sample)}
    assert kept == {f"scene {index}" for index in (0, 2, 3, 5)}
    assert len(samples("planted?objects=2,count=6,right=False", model)) == 12


def test_options_reach_the_generator() -> None:
    model = model_of(Sums())
    spec = "planted?difficulty=hard,watermark=True,seed=5,size=40,count=2,right=False"
    planted = PlantedEvidence("shape", "hard", 40, watermark=True, seed=5)
    for sample, scene in zip(samples(spec, model), planted.scenes(2), strict=True):
        assert (sample.prepared.image.pixels == scene.image).all()
        assert (sample.masks["evidence"] == scene.evidence()).all()
        assert sample.size == (SIZE, SIZE)


def test_the_size_is_that_of_the_input_by_default() -> None:
    (first,) = samples("planted?count=1,right=False", model_of(Sums()))
    assert first.prepared.image.size == (SIZE, SIZE)
    (large,) = samples("planted?count=1", visattn.load_model("reference:cbam", image_size=128))
    assert isinstance(large, Excluded) or large.prepared.image.size == (128, 128)


@pytest.mark.parametrize("labels", [None, LABELS[::-1], ("a", *LABELS[1:])])
def test_a_model_of_other_classes_is_refused(labels: Any) -> None:
    with pytest.raises(ConfigError, match="are not arrow, crescent"):
        samples("planted", model_of(Sums(), labels))


def test_other_kinds_need_their_own_model() -> None:
    with pytest.raises(ConfigError, match="trained on letters"):
        samples("planted?kind=letter", visattn.load_model("reference:vit"))


@pytest.mark.parametrize(
    "options",
    [
        "count=0",
        "objects=0",
        "kind=tree",
        "objects=9",
        "size=8",
        "size='96'",
        "count=many",
        "right=1",
        "kind=3",
    ],
)
def test_options_that_give_no_scenes_are_refused(options: str) -> None:
    with pytest.raises(ConfigError):
        open_dataset(f"planted?{options}")


def test_reference_models_have_samples() -> None:
    found = samples("planted?count=3", visattn.load_model("reference:vit"))
    assert sum(isinstance(each, Sample) for each in found) >= 2


@pytest.fixture
def scene() -> Any:
    scenes = PlantedEvidence(size=SIZE, objects=2).scenes(20)
    return next(scene for scene in scenes if scene.distractors.any())


def values_of(scene: Any, masks: dict[int, np.ndarray], method: str) -> list[dict[str, float]]:
    """Return the values of all metrics by a mask for each class of a scene."""
    model = model_of(Sums(masks))
    own = list(samples_of(scene, model.prepare(load_image(scene.image)), model.label))
    trial = Trial.read(method, model)
    maps = explained(model, [s.prepared for s in own], trial, [s.target for s in own])
    names = ("energy_pointing", "energy_ratio", "rank_accuracy", "pointing_game", "roc_auc",
             "heat_ratio", "own_object", "distractor_mass", "segmentation_miou",
             "segmentation_ap")  # fmt: skip
    return [
        {name: METRICS.get(name)().verdict(found, sample).value for name in names}
        for sample, found in zip(own, maps, strict=True)
    ]


def test_a_model_that_reads_the_evidence_gets_everything(scene: Any) -> None:
    masks = {label: scene.evidence(label) for label in scene.labels}
    for label, found in zip(scene.labels, values_of(scene, masks, "saliency:cell=1"), strict=True):
        ratio, distractors = found.pop("energy_ratio"), found.pop("distractor_mass")
        assert found == pytest.approx(dict.fromkeys(found, 1.0))
        assert ratio == pytest.approx(1 / masks[label].mean())
        overlap = (masks[label] & scene.distractors).sum() / masks[label].sum()
        assert distractors == pytest.approx(overlap)


def test_a_model_that_reads_the_other_object_gets_nothing(scene: Any) -> None:
    first, second = scene.labels
    masks = {first: scene.evidence(second), second: scene.evidence(first)}
    for found in values_of(scene, masks, "saliency:cell=1"):
        for name in ("energy_pointing", "pointing_game", "own_object", "heat_ratio"):
            assert found[name] == 0, name
        assert found["roc_auc"] < 0.5


def test_a_class_agnostic_map_splits_its_mass_between_the_objects(scene: Any) -> None:
    masks = {label: scene.evidence(label) for label in scene.labels}
    shares = [found["own_object"] for found in values_of(scene, masks, "center")]
    assert sum(shares) == pytest.approx(1)
