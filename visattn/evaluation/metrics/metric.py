"""Metric: from maps, and what is known about their samples, to numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from visattn.errors import ConfigError
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.sample import Excluded, Sample
from visattn.evaluation.spec import written
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.models import Model
from visattn.options import PLAIN, created

Values = npt.NDArray[np.float64]
Verdict = Measured | Excluded
HIGHER, LOWER, NEITHER = "higher", "lower", "neither"
LABEL, TILE = "label", "tile"


@dataclass(frozen=True)
class Cost:
    """What one map costs a metric, beyond computing it.

    Attributes:
        forward: forward passes.
        explanations: further maps by the same method.
        at_most: whether these are upper bounds.
    """

    forward: int = 0
    explanations: int = 0
    at_most: bool = False

    def __str__(self) -> str:
        parts = [
            f"{count} {noun}{'s' if count > 1 and noun == 'map' else ''}"
            for count, noun in ((self.forward, "forward"), (self.explanations, "map"))
            if count
        ]
        return ("at most " if self.at_most else "") + (" + ".join(parts) or "nothing")


@dataclass(frozen=True)
class Metric(ABC):
    """A published measure of maps: parameters are fields, maps come in the call.

    Subclasses are frozen dataclasses, one file each, decorated with
    `visattn.evaluation.metrics.METRICS.register`.

    Attributes:
        better: ``higher``, ``lower``, or ``neither`` for a description without a good direction.
        chance: what a map that knows nothing has, in words.
        rank_only: whether any strictly increasing transform of the map leaves the value as it is.
        needs: what a sample must have: names of masks, ``label``, ``tile``.
        formula: in one line.
        paper: authors, venue, year.
    """

    better: ClassVar[str] = HIGHER
    chance: ClassVar[str] = ""
    rank_only: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()
    formula: ClassVar[str] = ""
    paper: ClassVar[str] = ""

    @abstractmethod
    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return what each case gets, in order; the cases are of one method.

        Maps are finite and not constant. A case's value does not depend on the others.
        """

    def cost(self) -> Cost:
        """Return what one map costs."""
        return Cost()

    def refusal(self, model: Model, trial: Trial, size: Size) -> str | None:
        """Return why the metric says nothing of a method on a model with inputs of a size."""
        del model, trial, size
        return None

    def aggregate(self, parts: Values) -> Values:
        """Return the value (...) over maps (..., map, part); by default the mean of their values.

        Parts are those of `Measured`.
        """
        return np.asarray(parts[..., 0].mean(axis=-1))

    def required(self) -> tuple[str, ...]:
        """Return what a sample must have, given the options; by default all that it `needs`."""
        return self.needs

    def ranks_alone(self) -> bool:
        """Return whether the metric is `rank_only` with the options that it has."""
        return self.rank_only

    def lacks(self, sample: Sample) -> str | None:
        """Return what a sample does not have although the metric needs it, or None."""
        known = {*sample.masks, *([LABEL] if sample.label is not None else [])}
        known |= {TILE} if sample.tile is not None else set()
        missing = [need for need in self.required() if need not in known]
        return f"no {' and no '.join(missing)}" if missing else None

    def options(self) -> dict[str, Any]:
        """Return the parameters by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def label(self, name: str) -> str:
        """Return how tables call it: its name with the parameters that are not the default."""
        defaults = {each.name: each.default for each in fields(self)}
        return written(name, {k: v for k, v in self.options().items() if v != defaults[k]})

    @classmethod
    def create(cls, name: str, options: dict[str, Any]) -> Metric:
        """Build the metric from options; raises `ConfigError` for unknown and unfit ones."""
        return created(cls, name, options, ConfigError, PLAIN)
