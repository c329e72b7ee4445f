"""Negative perturbation (Chefer, Gur & Wolf, CVPR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from visattn.evaluation.metrics.metric import HIGHER
from visattn.evaluation.metrics.positive_perturbation import PositivePerturbation
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import Band, least


@METRICS.register("negative_perturbation")
@dataclass(frozen=True)
class NegativePerturbation(PositivePerturbation):
    """Accuracy while the least relevant units turn black; see `PositivePerturbation`.

    Chefer, Gur & Wolf, CVPR 2021; with ``against="prediction"`` the LIF of LibraGrad.
    """

    better: ClassVar[str] = HIGHER
    formula: ClassVar[str] = "area under 1[argmax f(x without lowest p) = label], p = 10..90 %"

    def removed(self, fraction: Fraction) -> Band:
        """Return the least relevant units."""
        return least(fraction)
