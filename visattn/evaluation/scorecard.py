"""Scorecard: what an evaluation found, method by method, with controls and intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from visattn.errors import ConfigError, suggestion
from visattn.evaluation.interval import Interval, Values, interval, paired
from visattn.evaluation.metrics import HIGHER, LOWER, Metric
from visattn.evaluation.result import Result
from visattn.evaluation.trial import Trial

BETTER, WORSE, OPEN = "better", "worse", "not separated"


@dataclass(frozen=True)
class Row:
    """One method on one metric.

    Attributes:
        metric, method: their labels.
        control: whether the method is a control.
        interval: the value over images; None where no map was measured.
        chance: mean over maps, where it is known.
        maps: how many were measured.
        against: paired difference to each control on the images that both have.
        verdict: ``better`` than every control that applies, ``worse`` than one of them, ``not
            separated``, also where a control that applies has no image in common; None for controls
            and for metrics without a direction.
        best: whether no method has a better value.
        behind: paired difference to the method with the best value; None for that one, and for one
            that has no image in common with it.
        excluded: maps without a value, counted by reason.
        refused: why the metric or the method does not apply at all, or None.
        passes, explanations: forward passes and further maps that the metric took, for each map.
        seconds, inside: that the metric took for each map, and of these inside forward passes.
        mapping: seconds for the map itself.
    """

    metric: str
    method: str
    control: bool
    interval: Interval | None = None
    chance: float | None = None
    maps: int = 0
    against: Mapping[str, Interval] = field(default_factory=dict)
    verdict: str | None = None
    best: bool = False
    behind: Interval | None = None
    excluded: Mapping[str, int] = field(default_factory=dict)
    refused: str | None = None
    passes: float = 0.0
    explanations: float = 0.0
    seconds: float = 0.0
    inside: float = 0.0
    mapping: float = 0.0


@dataclass(frozen=True, eq=False)
class Scorecard:
    """An evaluation.

    Attributes:
        rows: one for each metric and method, metrics in the order asked for, methods best first.
        metrics: by label.
        facts: what was evaluated on what, for JSON.
        excluded: samples that were left out before any map was made, counted by reason.
        samples: how many were evaluated.
    """

    rows: tuple[Row, ...]
    metrics: Mapping[str, Metric]
    facts: Mapping[str, Any]
    excluded: Mapping[str, int]
    samples: int

    def row(self, metric: str, method: str) -> Row:
        """Return one row by its labels; raises `ConfigError` with the nearest ones."""
        for row in self.rows:
            if (row.metric, row.method) == (metric, method):
                return row
        wrong, right = (
            (method, self.methods) if metric in self.metrics else (metric, tuple(self.metrics))
        )
        raise ConfigError(f"There is no row {metric} of {method}.{suggestion(wrong, right)}")

    def of(self, metric: str) -> list[Row]:
        """Return the rows of a metric, best first."""
        return [row for row in self.rows if row.metric == metric]

    @property
    def methods(self) -> tuple[str, ...]:
        """Labels of the methods, in the order of the first metric."""
        return tuple(dict.fromkeys(row.method for row in self.rows))


def leads(row: Row, metric: Metric) -> bool:
    """Return whether the best method is this one, or not better by the paired interval."""
    if metric.better not in (HIGHER, LOWER) or row.interval is None:
        return False
    if row.behind is None or row.behind.low is None:
        return row.best
    return not (row.behind.below_zero if metric.better == HIGHER else row.behind.above_zero)


def rows_of(
    label: str,
    metric: Metric,
    trials: Sequence[Trial],
    results: Mapping[str, Sequence[Result]],
    refusals: Mapping[str, str],
    seed: int,
) -> list[Row]:
    """Return the rows of one metric, the best first; ``results`` are by the label of the trial."""
    contest = _Contest(label, metric, trials, results, refusals, seed)
    return [contest.row(trial) for trial in contest.order]


@dataclass(frozen=True, eq=False)
class _Contest:
    """The methods of one metric, to be compared with the best and with the controls."""

    label: str
    metric: Metric
    trials: Sequence[Trial]
    results: Mapping[str, Sequence[Result]]
    refusals: Mapping[str, str]
    seed: int

    @cached_property
    def groups(self) -> dict[str, Values]:
        """Values of the methods that have any (group, part)."""
        found = {trial.label: grouped(self.results.get(trial.label, ())) for trial in self.trials}
        return {name: np.stack(list(each.values())) for name, each in found.items() if each}

    @cached_property
    def order(self) -> list[Trial]:
        """The best first, methods without a value last."""
        sign = 1.0 if self.metric.better == LOWER else -1.0
        places = {n: sign * float(self.metric.aggregate(v)) for n, v in self.groups.items()}
        return sorted(self.trials, key=lambda trial: places.get(trial.label, np.inf))

    def row(self, trial: Trial) -> Row:
        name, best = trial.label, self.order[0].label
        own, values = self.results.get(name, ()), self.groups.get(name)
        against = self.against(name)
        return Row(
            metric=self.label,
            method=name,
            control=trial.control,
            interval=None if values is None else interval(values, self.metric.aggregate, self.seed),
            maps=sum(each.value is not None for each in own),
            against=against,
            verdict=None if trial.control else self.verdict(against),
            best=values is not None and name == best,
            behind=self.difference(name, best) if name != best else None,
            refused=self.refusals.get(name),
            excluded=dict(Counter(each.reason for each in own if each.reason is not None)),
            **_means(own),
        )

    def against(self, name: str) -> dict[str, Interval]:
        """Return the differences of a method to the controls that have values."""
        others = [each.label for each in self.trials if each.control and each.label != name]
        found = {other: self.difference(name, other) for other in others}
        return {other: each for other, each in found.items() if each is not None}

    def difference(self, one: str, other: str) -> Interval | None:
        """Return the difference on the samples that both have a value of, None without any.

        Pairs are samples before they are groups: of a photo with two classes, one of which has no
        value of the other method, only the class that both have is compared.
        """
        left, right = (
            {each.sample: each for each in self.results.get(name, ()) if each.value is not None}
            for name in (one, other)
        )
        both = [name for name in left if name in right]
        if not both:
            return None
        values = [
            np.stack(list(grouped([side[name] for name in both]).values()))
            for side in (left, right)
        ]
        return paired(values[0], values[1], self.metric.aggregate, self.seed)

    def verdict(self, against: Mapping[str, Interval]) -> str | None:
        """Return whether the intervals of the differences say better, worse or neither.

        Nothing is better than a control that applies but that it was never compared with.
        """
        better = self.metric.better
        if better not in (HIGHER, LOWER) or not against:
            return None
        applying = {t.label for t in self.trials if t.control and t.label not in self.refusals}
        higher, found = better == HIGHER, list(against.values())
        if any(each.below_zero if higher else each.above_zero for each in found):
            return WORSE
        ahead = all(each.above_zero if higher else each.below_zero for each in found)
        return BETTER if ahead and applying <= against.keys() else OPEN


def grouped(results: Sequence[Result]) -> dict[str, Values]:
    """Return for each group the mean of its parts (part,)."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for each in results:
        if each.value is not None:
            found.setdefault(each.group, []).append(each.parts or (each.value,))
    return {group: np.mean(np.array(parts, np.float64), axis=0) for group, parts in found.items()}


def _means(results: Sequence[Result]) -> dict[str, Any]:
    """Return the mean chance and cost over the maps that were measured."""
    own = [each for each in results if each.value is not None]
    names = ("passes", "explanations", "seconds", "inside", "mapping")
    chances = [each.chance for each in own if each.chance is not None]
    means = {n: float(np.mean([getattr(e, n) for e in own])) if own else 0.0 for n in names}
    return {"chance": float(np.mean(chances)) if chances else None, **means}
