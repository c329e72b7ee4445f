"""Positive perturbation (Chefer, Gur & Wolf, CVPR 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from visattn.errors import ConfigError
from visattn.evaluation.case import PROBABILITY, Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import LABEL, LOWER, Verdict
from visattn.evaluation.metrics.perturbation import Perturbation, fractions_of
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.metrics.road import TENTHS
from visattn.evaluation.removal import NOTHING, Band, Path, most
from visattn.evaluation.sample import Excluded
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.models import Model
from visattn.options import require_choice

PREDICTION = "prediction"
AGAINST = (LABEL, PREDICTION)


@METRICS.register("positive_perturbation")
@dataclass(frozen=True)
class PositivePerturbation(Perturbation):
    """Accuracy while the most relevant units turn black, 10 to 90 %.

    ``trapezoid_p 1[argmax f(x without the top p) = c] / (p_9 - p_1)`` over the ``fractions`` p, in
    0..1 (papers print percent), without the end points 0 and 100 %. c is the sample's label, so
    that images which the model gets wrong from the start count as wrong; with
    ``against="prediction"`` the class that the model chooses for the whole input (the MIF of
    LibraGrad). Nine forward passes.

    Chefer, Gur & Wolf, CVPR 2021, but by default whole patches, see `Perturbation`.
    """

    better: ClassVar[str] = LOWER
    needs: ClassVar[tuple[str, ...]] = (LABEL,)
    chance: ClassVar[str] = "that of a random map on the same samples"
    formula: ClassVar[str] = "area under 1[argmax f(x without top p) = label], p = 10..90 %"
    paper: ClassVar[str] = "Chefer, Gur & Wolf, CVPR 2021"

    fill: str = "black"
    against: str = LABEL
    fractions: Any = TENTHS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score != PROBABILITY:
            raise ConfigError("Perturbation counts right choices and has no score: leave it out.")
        require_choice("against", self.against, AGAINST)
        found = fractions_of(self.fractions)
        if len(found) < 2 or sorted(set(found)) != found:
            raise ConfigError(f"fractions={self.fractions!r}: give at least two, rising.")

    def bands(self) -> Sequence[Band]:
        """Return more and more units of the order."""
        return [self.removed(fraction) for fraction in fractions_of(self.fractions)]

    def removed(self, fraction: Fraction) -> Band:
        """Return a fraction of the units, from one end of the order."""
        return most(fraction)

    def required(self) -> tuple[str, ...]:
        """Return that a label is needed, unless the model's own choice is what counts."""
        return () if self.against == PREDICTION else self.needs

    def refusal(self, model: Model, trial: Trial, size: Size) -> str | None:
        """Return that there is no class to choose, or what else stands against it."""
        if not model.has_classifier:
            return f"{model.name} has no classifier whose choice could be right"
        return super().refusal(model, trial, size)

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the area under right and wrong."""
        choice = path.readings[NOTHING].choice
        if choice is None:
            return Excluded("the outputs are no scores of classes")
        wanted = case.sample.label if self.against == LABEL else choice
        right = np.array([path.readings[band].choice == wanted for band in self.bands()], float)
        places = np.array([float(fraction) for fraction in fractions_of(self.fractions)])
        return Measured(float(np.trapezoid(right, places) / (places[-1] - places[0])))
