"""Completeness error (Sundararajan, Taly & Yan, ICML 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import LOWER, Cost, Metric, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import NOT_FINITE
from visattn.evaluation.sample import Excluded
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.methods.baseline import baseline_of
from visattn.models import Model


@METRICS.register("completeness")
@dataclass(frozen=True)
class Completeness(Metric):
    """How far the sum of a map is from the score that it should share out.

    ``| f(x) - f(x') - sum m |`` with x' the baseline of the method itself (`Method.origin`), so
    only for methods that have one; f the logit that was explained. In units of the score; 0 is
    perfect. One forward pass. A map can be complete and wrong: any way of sharing out is.

    Sundararajan, Taly & Yan, ICML 2017, whose axiom it is.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "that of a map of zeros: |f(x) - f(x')|"
    formula: ClassVar[str] = "|f(x) - f(x') - sum m|"
    paper: ClassVar[str] = "Sundararajan, Taly & Yan, ICML 2017"

    def cost(self) -> Cost:
        """Return one forward pass, of the baseline."""
        return Cost(1)

    def refusal(self, model: Model, trial: Trial, size: Size) -> str | None:
        """Return that a method has no score to add up to, where that is so."""
        del model, size
        method = trial.build()
        if method.additive and method.origin is not None:
            return None
        return f"{trial.method} as it is asked for does not share out the score from a baseline"

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the error of each case."""
        outputs = bench.outputs(
            baseline_of(case.trial.build().origin, bench.model, case.tensor[None])[0]
            for case in cases
        )
        return [_verdict(*pair) for pair in zip(cases, outputs, strict=True)]


def _verdict(case: Case, output: torch.Tensor) -> Verdict:
    gained = float(case.scores(case.output) - case.scores(output))
    if not np.isfinite(gained):
        return Excluded(NOT_FINITE)
    total = float(case.found.grid.sum(dtype=np.float64))
    return Measured(abs(gained - total), abs(gained))
