"""Scores of a method on planted scenes, where the evidence is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

from visattn.evaluation.localization import energy_pointing, pointing_game, rank_accuracy
from visattn.evaluation.measured import Measured
from visattn.evaluation.scene import Scene
from visattn.explanation import automatic_method, explain
from visattn.methods import get_method
from visattn.models import Model
from visattn.saliency import SaliencyMap

Metric = Callable[[SaliencyMap, Scene, int], Measured | None]


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


def _energy(found: SaliencyMap, scene: Scene, label: int) -> Measured:
    return energy_pointing(found, scene.evidence(label))


def _pointing(found: SaliencyMap, scene: Scene, label: int) -> Measured:
    return pointing_game(found, scene.evidence(label))


def _rank(found: SaliencyMap, scene: Scene, label: int) -> Measured:
    return rank_accuracy(found, scene.evidence(label))


def _distractors(found: SaliencyMap, scene: Scene, label: int) -> Measured | None:
    del label
    mask = scene.distractors
    return energy_pointing(found, mask) if mask.any() else None


def _own(found: SaliencyMap, scene: Scene, label: int) -> Measured | None:
    """Return the share of the mass on all objects that lies on the one that is explained."""
    if len(scene.labels) < 2:
        return None
    shares = {each: energy_pointing(found, scene.evidence(each)) for each in scene.labels}
    mass, area = (
        sum(getattr(share, part) for share in shares.values()) for part in ("value", "chance")
    )
    chance = shares[label].chance / area
    return Measured(shares[label].value / mass if mass > 0 else chance, chance)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "energy": _energy,
        "pointing": _pointing,
        "rank_accuracy": _rank,
        "distractor_mass": _distractors,
        "own_object": _own,
    }
)


def scored(
    model: Model,
    scenes: Sequence[Scene],
    method: str,
    *,
    batch_size: int = 8,
    **options: Any,
) -> Iterator[Score]:
    """Yield the scores of a method, one for each class in each scene.

    Class-specific methods explain each class in turn; class-agnostic ones have one map for all.
    The metrics are ``energy``, ``pointing`` and ``rank_accuracy`` on the evidence of the class
    (more is better), ``distractor_mass`` on everything else that was planted (less is better), and
    for scenes with several classes ``own_object``, the share of the mass on all objects that lies
    on the explained one (more is better). See `visattn.evaluation.localization`.

    Errors are those of `visattn.explain`.
    """
    wanted = iter([(scene, label) for scene in scenes for label in scene.labels])
    specific = _explains_class(model, method, options)
    while part := list(islice(wanted, batch_size)):
        maps = explain(
            model,
            [scene.image for scene, _ in part],
            method=method,
            target=[label for _, label in part] if specific else None,
            batch_size=batch_size,
            **options,
        )
        for found, (scene, label) in zip(maps, part, strict=True):
            values = {name: metric(found, scene, label) for name, metric in METRICS.items()}
            known = {name: value for name, value in values.items() if value is not None}
            yield Score(scene.index, label, known)


def _explains_class(model: Model, method: str, options: Mapping[str, Any]) -> bool:
    """Return whether a method with its options, or what ``auto`` stands for, takes a class."""
    own: dict[str, Any] = {}
    if method == "auto":
        method, own = automatic_method(model)
    return get_method(method).create(method, {**own, **options}).class_specific
