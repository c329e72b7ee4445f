"""SRG, symmetric relevance gain (Bluecher, Vielhaben & Strodthoff, TMLR 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.abpc import BothOrders
from visattn.evaluation.metrics.metric import Verdict
from visattn.evaluation.metrics.perturbation import area
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import Path


@METRICS.register("srg")
@dataclass(frozen=True)
class Srg(BothOrders):
    """Area between the scores when the least and when the most relevant units go first.

    ``(AUC(least first) - AUC(most first)) / n`` by the trapezoid rule over n = ``steps`` steps, of
    the logit, units the model's patches, the mean colour in their place: in units of the score. 2 n
    - 1 forward passes. A map and its negative have opposite values. Both orders together depend
    less on the fill than one alone.

    Bluecher, Vielhaben & Strodthoff, TMLR 2024, for the logit of the true class; here of the
    sample's target.
    """

    chance: ClassVar[str] = "0"
    formula: ClassVar[str] = "(AUC(least relevant first) - AUC(most relevant first)) / n"
    paper: ClassVar[str] = "Bluecher, Vielhaben & Strodthoff, TMLR 2024"

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the area between both curves."""
        del case
        return Measured(area(self.gap(path)), 0.0)
