"""Sparseness: the Gini coefficient of a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import Metric, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.sample import Excluded
from visattn.statistics import gini


@METRICS.register("sparseness")
@dataclass(frozen=True)
class Sparseness(Metric):
    """Gini coefficient of a map's magnitudes over its own cells, higher for maps that say less.

    ``(2 sum_j j p_(j) - (n + 1)) / n``, p = |m| / sum |m| in ascending order over the n cells of
    the grid, never of upsampled pixels; 0 for an even map, 1 - 1/n for one cell. It says nothing of
    whether a map is right.
    """

    chance: ClassVar[str] = "0 for an even map"
    formula: ClassVar[str] = "(2 sum_j j p_(j) - (n + 1)) / n, p = |m| / sum |m| ascending"
    paper: ClassVar[str] = "Chalasani et al., ICML 2020"

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the Gini coefficient of each map."""
        del bench
        found = [gini(np.abs(case.found.grid)) for case in cases]
        return [Excluded("no signal") if each is None else Measured(each, 0.0) for each in found]
