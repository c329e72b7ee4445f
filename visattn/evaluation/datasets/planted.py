"""Planted scenes, whose evidence is known by construction, for a model that has learnt them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visattn.errors import ConfigError
from visattn.evaluation.datasets.dataset import Dataset
from visattn.evaluation.datasets.registry import DATASETS
from visattn.evaluation.metrics.metric import LABEL
from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.sample import DISTRACTORS, EVIDENCE, OTHERS, Excluded, Sample
from visattn.evaluation.scene import Scene
from visattn.images import load_image
from visattn.models import Model, Prepared

MISCLASSIFIED = "misclassified"


@DATASETS.register("planted")
@dataclass(frozen=True)
class Planted(Dataset):
    """Scenes of `PlantedEvidence`, one sample for each class in each.

    The model must have the planted classes, in their order, as its outputs: ``reference:vit`` and
    ``reference:cbam`` have those of ``kind="shape"``. A class-agnostic map is judged once for each
    class. Samples of one scene are one group.

    Attributes:
        kind: ``shape``, ``letter`` or ``pattern``.
        difficulty: ``easy``, ``default`` or ``hard``.
        size: side of the scenes in pixels; None is the shorter side of the model's input.
        objects: classes in a scene, one object each.
        watermark: whether the class is that of a watermark, and the object says nothing.
        seed: of all scenes.
        count: scenes, with those that are left out.
        right: only scenes whose classes have the model's highest scores: of others it is not known
            whether the model saw the evidence.
    """

    truths: ClassVar[tuple[str, ...]] = (EVIDENCE, DISTRACTORS, OTHERS, LABEL)

    kind: str = "shape"
    difficulty: str = "default"
    size: int | None = None
    objects: int = 1
    watermark: bool = False
    seed: int = 0
    count: int = 100
    right: bool = True

    def __post_init__(self) -> None:
        if self.count < 1 or (self.objects < 1 and not self.watermark):
            raise ConfigError(
                f"count={self.count}, objects={self.objects}: at least one scene, and one object "
                "in it, is needed."
            )
        if self.size is not None and not isinstance(self.size, int):
            raise ConfigError(f"size={self.size!r} is not a number of pixels.")
        self.generator(
            96 if self.size is None else self.size
        )  # says now what is wrong with an option

    def generator(self, size: int) -> PlantedEvidence:
        """Return the generator of scenes of ``size`` x ``size`` pixels."""
        options = (self.kind, self.difficulty, size, self.objects, self.watermark)
        return PlantedEvidence(*options, seed=self.seed)

    def samples(self, model: Model) -> Iterator[Sample | Excluded]:
        """Yield the classes of each scene; raises `ConfigError` for a model of other classes."""
        planted = self.generator(self.side(model))
        if model.labels != planted.classes:
            raise ConfigError(
                f"The classes of {model.name} are not {', '.join(planted.classes)} in this order: "
                "take reference:vit or reference:cbam for shapes, or a model that was trained on "
                f"{self.kind}s, with its labels: load_model(..., labels=[...])."
            )
        for scene in planted.scenes(self.count):
            prepared = model.prepare(load_image(scene.image))
            if self.right and not is_right(model, prepared, scene):
                yield Excluded(MISCLASSIFIED, name_of(scene))
                continue
            yield from samples_of(scene, prepared, model.label)

    def side(self, model: Model) -> int:
        """Return the side of the scenes in pixels."""
        if self.size is not None:
            return self.size
        if model.input_size is None:
            raise ConfigError(f"{model.name} has no input size of its own: give planted?size=96.")
        return min(model.input_size)


def is_right(model: Model, prepared: Prepared, scene: Scene) -> bool:
    """Return whether the classes of a scene are those with the highest scores."""
    best = model.run(model.stack([prepared]))[0].topk(len(scene.labels)).indices
    return set(best.tolist()) == set(scene.labels)


def samples_of(scene: Scene, prepared: Prepared, named: Callable[[int], str]) -> Iterator[Sample]:
    """Yield one sample for each class of a scene; ``named`` says how a label is called."""
    evidence = {label: scene.evidence(label) for label in scene.labels}
    distractors = scene.distractors
    for label in scene.labels:
        masks = {EVIDENCE: evidence[label]}
        if distractors.any():
            masks[DISTRACTORS] = distractors
        if len(evidence) > 1:
            masks[OTHERS] = np.any([evidence[e] for e in evidence if e != label], axis=0)
        group = name_of(scene)
        name = f"{group}, {named(label)}"
        yield Sample(name, prepared, label, label, masks, group=group)


def name_of(scene: Scene) -> str:
    """Return the name of a scene in reports."""
    return f"scene {scene.index}"
