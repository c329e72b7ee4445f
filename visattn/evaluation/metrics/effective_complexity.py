"""Effective complexity: how many cells of a map count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visattn.errors import ConfigError
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import LOWER, Metric, Verdict
from visattn.evaluation.metrics.registry import METRICS


@METRICS.register("effective_complexity")
@dataclass(frozen=True)
class EffectiveComplexity(Metric):
    """Share of the cells whose magnitude exceeds a share of the largest, lower for fewer cells.

    ``#{|m_j| > eps max |m|} / n`` over the n cells of the grid. The threshold is relative because a
    fixed one depends on the scale of the map, which methods choose freely; 1/n for one cell, 1 for
    an even map. It says nothing of whether a map is right.

    Attributes:
        eps: share of the largest magnitude, 0 to below 1.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "1 for an even map"
    formula: ClassVar[str] = "#{|m| > eps max |m|} / n"
    paper: ClassVar[str] = "Nguyen & Martinez, arXiv 2020, with a relative threshold"

    eps: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.eps < 1:
            raise ConfigError(f"eps={self.eps!r} is not at least 0 and below 1.")

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the share of cells of each map."""
        del bench
        sizes = [np.abs(case.found.grid) for case in cases]
        return [Measured(float((each > self.eps * each.max()).mean()), 1.0) for each in sizes]
