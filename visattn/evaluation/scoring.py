"""Scores of a method on planted scenes, where the evidence is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

from visattn.errors import VisattnError
from visattn.evaluation.bench import explained
from visattn.evaluation.datasets.planted import samples_of
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.distractor_mass import DistractorMass
from visattn.evaluation.metrics.energy_pointing import EnergyPointing
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.own_object import OwnObject
from visattn.evaluation.metrics.pointing_game import PointingGame
from visattn.evaluation.metrics.rank_accuracy import RankAccuracy
from visattn.evaluation.sample import Sample
from visattn.evaluation.scene import Scene
from visattn.evaluation.trial import AUTO, Trial
from visattn.explanation import automatic_method
from visattn.images import load_image
from visattn.models import Model
from visattn.saliency import SaliencyMap

METRICS: Mapping[str, Located] = MappingProxyType(
    {
        "energy": EnergyPointing(),
        "pointing": PointingGame(),
        "rank_accuracy": RankAccuracy(),
        "distractor_mass": DistractorMass(),
        "own_object": OwnObject(),
    }
)


@dataclass(frozen=True)
class Score:
    """What one map got.

    Attributes:
        scene: number of the scene.
        label: class that was explained.
        metrics: by the names of `METRICS`; without those that a scene does not define.
    """

    scene: int
    label: int
    metrics: Mapping[str, Measured]


def scored(
    model: Model, scenes: Sequence[Scene], method: str, *, batch_size: int = 8, **options: Any
) -> Iterator[Score]:
    """Yield the scores of a method, one for each class in each scene, for a look at a few scenes.

    `visattn.evaluation.datasets.planted` is the same as a data set. Class-specific methods explain
    each class in turn; class-agnostic ones have one map for all. The metrics are ``energy``,
    ``pointing`` and ``rank_accuracy`` on the evidence of the class (more is better),
    ``distractor_mass`` on everything else that was planted (less is better), and for scenes with
    several classes ``own_object``, the share of the mass on all objects that lies on the explained
    one (more is better).

    Errors are those of `visattn.explain`.
    """
    trial = _trial(model, method, options)
    wanted = _samples(model, scenes)
    while part := list(islice(wanted, batch_size)):
        samples = [sample for _, sample in part]
        prepared, targets = [s.prepared for s in samples], [s.target for s in samples]
        maps = explained(model, prepared, trial, targets)
        for (scene, sample), found in zip(part, maps, strict=True):
            if isinstance(found, VisattnError):
                raise found
            yield Score(scene.index, sample.target, dict(_known(found, sample)))


def _samples(model: Model, scenes: Sequence[Scene]) -> Iterator[tuple[Scene, Sample]]:
    for scene in scenes:
        prepared = model.prepare(load_image(scene.image))
        for sample in samples_of(scene, prepared, model.label):
            yield scene, sample


def _known(found: SaliencyMap, sample: Sample) -> Iterator[tuple[str, Measured]]:
    for name, metric in METRICS.items():
        verdict = None if metric.lacks(sample) else metric.verdict(found, sample)
        if isinstance(verdict, Measured):
            yield name, verdict


def _trial(model: Model, method: str, options: Mapping[str, Any]) -> Trial:
    """Return method and options, or what ``auto`` stands for."""
    own: dict[str, Any] = {}
    if method == AUTO:
        method, own = automatic_method(model)
    return Trial(method, method, {**own, **options})
