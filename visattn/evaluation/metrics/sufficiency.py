"""Sufficiency (DeYoung et al., ACL 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.metrics.comprehensiveness import Comprehensiveness
from visattn.evaluation.metrics.metric import LOWER
from visattn.evaluation.metrics.perturbation import fractions_of
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import Band, after


@METRICS.register("sufficiency")
@dataclass(frozen=True)
class Sufficiency(Comprehensiveness):
    """What the probability loses when only the most relevant units are left.

    ``mean_q p(x) - p(top q of x only)``, fractions as in `Comprehensiveness`.

    DeYoung et al., ACL 2020, for words of a text.
    """

    better: ClassVar[str] = LOWER
    formula: ClassVar[str] = "mean_q p(x) - p(top q of x only)"

    def bands(self) -> Sequence[Band]:
        """Return all but the most relevant units, for each fraction."""
        return [after(fraction) for fraction in fractions_of(self.fractions)]
