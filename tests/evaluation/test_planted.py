"""Planted scenes: reproducible, and their evidence is all that the class depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visattn.errors import ConfigError
from visattn.evaluation import backgrounds
from visattn.evaluation.backgrounds import SOURCES, source
from visattn.evaluation.difficulty import LEVELS
from visattn.evaluation.objects import KINDS, names_of, stamp
from visattn.evaluation.planted import PlantedEvidence, hidden
from visattn.evaluation.scene import DISTRACTOR, OBJECT, WATERMARK, Layer, Scene

EVERY = [
    *(PlantedEvidence(kind=kind, difficulty=level) for kind in KINDS for level in LEVELS),
    PlantedEvidence(objects=3),
    PlantedEvidence(watermark=True),
    PlantedEvidence(watermark=True, objects=0),
    PlantedEvidence(size=64, training=True),
]


def described(planted: PlantedEvidence) -> str:
    changed = {
        name: value
        for name, value in vars(planted).items()
        if value != getattr(PlantedEvidence(), name)
    }
    return ",".join(f"{name}={value}" for name, value in changed.items()) or "default"


every = pytest.mark.parametrize("planted", EVERY, ids=described)


@every
def test_scenes_come_from_the_seed_in_any_order(planted: PlantedEvidence) -> None:
    first = [scene.image for scene in planted.scenes(3, start=5)]
    again = [planted.scene(index).image for index in (7, 6, 5)]
    assert all(map(np.array_equal, first, reversed(again)))
    other = replace(planted, seed=1).scene(5).image
    assert not np.array_equal(first[0], other)


@every
def test_evidence_is_exactly_what_changes_when_it_is_painted_over(
    planted: PlantedEvidence,
) -> None:
    for scene in planted.scenes(8):
        assert scene.image.shape == (planted.size, planted.size, 3)
        for label in scene.labels:
            mask, without = scene.evidence(label), scene.without_evidence(label)
            assert mask.any()
            assert np.array_equal(scene.image[~mask], without[~mask])
            assert (scene.image[mask] != without[mask]).any(axis=-1).all()


@every
def test_distractors_say_nothing_of_the_class(planted: PlantedEvidence) -> None:
    names = set(planted.classes)
    for scene in planted.scenes(8):
        silent = [layer for layer in scene.layers if layer.label is None]
        assert planted.watermark or not names & {layer.name for layer in silent}
        gone = scene.without_distractors()
        assert np.array_equal(scene.image[~scene.distractors], gone[~scene.distractors])


def test_evidence_and_distractors_overlap_only_where_one_lies_on_the_other() -> None:
    for scene in PlantedEvidence().scenes(20):
        objects = [layer for layer in scene.layers if layer.role == OBJECT]
        others = [layer for layer in scene.layers if layer.role == DISTRACTOR]
        covered = any(
            hidden(objects[0], other.alpha, (other.top, other.left)) > 0 for other in others
        )
        assert covered or not (scene.evidence() & scene.distractors).any()


def test_occluders_leave_the_agreed_share_of_the_object_visible() -> None:
    planted = PlantedEvidence(difficulty="hard")
    limit, seen = LEVELS["hard"].cover, []
    for scene in planted.scenes(60):
        (target,) = [layer for layer in scene.layers if layer.role == OBJECT]
        seen += [
            hidden(target, layer.alpha, (layer.top, layer.left))
            for layer in scene.layers
            if layer.role == DISTRACTOR
        ]
    assert max(seen) <= limit
    assert sum(share > 0.02 for share in seen) > 10


def test_several_objects_are_of_distinct_classes() -> None:
    for scene in PlantedEvidence(objects=3).scenes(10):
        assert len(set(scene.labels)) == 3
        masks = [scene.evidence(label) for label in scene.labels]
        assert not (masks[0] & masks[1]).any()
        with pytest.raises(ConfigError, match="has 3 classes, not one"):
            _ = scene.label


def test_the_watermark_is_the_evidence_and_the_object_says_nothing() -> None:
    agree = 0
    for scene in PlantedEvidence(watermark=True).scenes(200):
        (mark,) = [layer for layer in scene.layers if layer.role == WATERMARK]
        (thing,) = [layer for layer in scene.layers if layer.role == OBJECT]
        assert mark.label == scene.label
        assert thing.label is None
        agree += PlantedEvidence().classes[scene.label] == thing.name
        rows, cols = np.nonzero(scene.evidence())
        assert rows.min() >= mark.top
        assert cols.max() < mark.left + mark.alpha.shape[1]
    assert agree < 50  # 25 expected by chance


def test_nothing_else_depends_on_the_class() -> None:
    """Size of the picture's parts and brightness do not tell the classes apart."""
    scenes = list(PlantedEvidence().scenes(400))
    labels = np.array([scene.label for scene in scenes])
    background = np.array([scene.background.mean() for scene in scenes])
    number = np.array([len(scene.layers) for scene in scenes], float)
    for values in (background, number):
        within = np.array([values[labels == label].mean() for label in range(8)])
        spread = values.std() / np.sqrt(len(scenes) / 8)
        assert np.abs(within - values.mean()).max() < 3.5 * spread
    counts = np.bincount(labels, minlength=8)
    assert counts.min() > 25


def test_training_and_test_backgrounds_come_from_disjoint_parts(monkeypatch) -> None:
    parted = np.zeros((400, 500, 3), np.uint8)
    parted[:, 300:] = 200  # the part that is kept for tests
    monkeypatch.setattr(backgrounds, "source", lambda name: parted)
    planted = PlantedEvidence(objects=0, difficulty="easy")
    trained = replace(planted, training=True)
    for index in range(40):
        assert trained.scene(index).background.max() == 0
        assert planted.scene(index).background.min() >= 149


def test_sources_are_large_enough_to_be_parted() -> None:
    assert all(source(name).shape[1] * 0.4 > 96 * 1.6 for name in SOURCES)


@pytest.mark.parametrize("level", LEVELS)
def test_contrast_is_what_the_difficulty_says(level: str) -> None:
    low, high = LEVELS[level].contrast
    luma = np.array([0.299, 0.587, 0.114])
    seen = []
    for scene in PlantedEvidence(difficulty=level, objects=2).scenes(200):
        for layer in scene.layers:
            if layer.role != OBJECT:  # of two tones
                continue
            side = layer.alpha.shape[0]
            behind = scene.background[layer.top :, layer.left :][:side, :side] @ luma
            seen.append(abs(float((layer.colour @ luma).mean() - behind.mean())) / 255)
    assert low - 0.005 <= min(seen) < max(seen) <= high + 0.005


def test_occluders_spare_every_object() -> None:
    limit, seen = LEVELS["hard"].cover, []
    for scene in PlantedEvidence(difficulty="hard", objects=4).scenes(150):
        objects = [layer for layer in scene.layers if layer.role == OBJECT]
        others = [layer for layer in scene.layers if layer.role == DISTRACTOR]
        seen += [hidden(one, two.alpha, (two.top, two.left)) for one in objects for two in others]
    assert max(seen) <= limit


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in names_of(kind)]
)
def test_objects_fill_their_circle_and_no_more(kind: str, name: str) -> None:
    made = stamp(kind, name, 40.0, 15.0)
    side = made.alpha.shape[0]
    line = np.arange(side) - (side - 1) / 2
    distance = np.hypot(*np.meshgrid(line, line))
    assert made.alpha[distance > 22].max(initial=0) == 0
    assert distance[made.alpha > 0.5].max() > 14
    assert 0 <= made.tone.min() <= made.tone.max() <= 1


def test_objects_of_a_kind_look_different_at_every_turn() -> None:
    for kind in KINDS:
        drawn = {name: stamp(kind, name, 40.0, 0.0) for name in names_of(kind)}
        for name, one in drawn.items():
            for other, two in drawn.items():
                apart = np.abs(one.alpha - two.alpha) + np.abs(one.tone - two.tone)
                assert name == other or apart.mean() > 0.05


def test_a_layer_that_is_cut_off_at_the_edge_paints_the_rest() -> None:
    colour = np.full((4, 4, 3), 200, np.float32)
    layer = Layer(OBJECT, "block", 0, -2, 6, np.ones((4, 4), np.float32), colour)
    scene = Scene(np.zeros((8, 8, 3), np.float32), (layer,), (0,), 0)
    assert np.argwhere(scene.evidence()).tolist() == [[0, 6], [0, 7], [1, 6], [1, 7]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "shapes"}, "no kind of object 'shapes'. Did you mean 'shape'"),
        ({"difficulty": "harder"}, "no difficulty 'harder'"),
        ({"objects": 9}, "0 to 8 classes"),
        ({"objects": 2, "watermark": True}, "at most one"),
        ({"size": 8}, "below 32 pixels"),
    ],
)
def test_wrong_options_are_named(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        PlantedEvidence(**options)


def test_a_class_that_is_not_there_has_no_evidence() -> None:
    scene = PlantedEvidence().scene(0)
    with pytest.raises(ConfigError, match="is not in scene 0"):
        scene.evidence((scene.label + 1) % 8)


SHIPPED = {
    "crescent": (1, 0), "hourglass": (1, 1), "star": (1, 2), "triangle": (1, 5),
    "triangle-and-arrow": (2, 0), "ring-and-heart": (2, 7),
}  # fmt: skip


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_scenes_are_what_the_generator_draws(name: str) -> None:
    folder = Path(__file__).parents[2] / "data" / "planted"
    objects, index = SHIPPED[name]
    planted = PlantedEvidence(size=384, objects=objects)
    scene = planted.scene(index)
    picture = np.asarray(Image.open(folder / "scenes" / f"{name}.jpg"))
    assert np.abs(picture.astype(int) - scene.image).mean() < 4  # of JPEG
    for label in scene.labels:
        path = folder / "evidence" / f"{name}.{planted.classes[label]}.png"
        assert np.array_equal(np.asarray(Image.open(path)), scene.evidence(label))
