"""Complexity: the entropy of a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import entropy

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import LOWER, Metric, Verdict
from visattn.evaluation.metrics.registry import METRICS


@METRICS.register("complexity")
@dataclass(frozen=True)
class Complexity(Metric):
    """Entropy of a map's magnitudes over its own cells, lower for maps that say less.

    ``-sum_j p_j log p_j / log n``, ``p_j = |m_j| / sum |m|`` over the n cells of the grid, never of
    upsampled pixels; 0 for one cell, 1 for an even map. It says nothing of whether a map is right.

    Attributes:
        normalized: whether it is divided by log n, which makes grids of different sizes comparable;
            the paper's own number, in nats, is without.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "1, or log n, for an even map"
    formula: ClassVar[str] = "-sum p log p / log n, p = |m| / sum |m|"
    paper: ClassVar[str] = "Bhatt et al., IJCAI 2020"

    normalized: bool = True

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the entropy of each map."""
        del bench
        return [self._entropy(case) for case in cases]

    def _entropy(self, case: Case) -> Measured:
        sizes = np.abs(case.found.grid.astype(np.float64)).ravel()
        most = math.log(sizes.size)
        unit = most if self.normalized else 1.0
        return Measured(float(entropy(sizes)) / unit, most / unit)
