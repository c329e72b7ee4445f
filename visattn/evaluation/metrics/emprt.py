"""Efficient MPRT: does a map become less ordered when all weights of the model are random?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.stats import entropy

from visattn.errors import ModelError
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import Cost, Metric, Verdict
from visattn.evaluation.metrics.mprt import CANNOT_BE_COPIED, randomized
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.randomization import TOP_DOWN
from visattn.evaluation.rerun import Further
from visattn.evaluation.sample import Excluded
from visattn.evaluation.similarity import Grid
from visattn.options import require_at_least


@METRICS.register("emprt")
@dataclass(frozen=True)
class Emprt(Metric):
    """Relative rise of the entropy of a map's values when the whole model is random.

    ``(H(m(f_random)) - H(m(f))) / H(m(f))``, H the entropy of the histogram of the values from the
    map's minimum to its maximum. 0 for what ignores the model; negative where the random model's
    map has the fewer levels. Scale and shift of maps do not matter.

    Attributes:
        bins: of the histogram; 100 in the paper. A map has no more levels than cells, so numbers
            from grids of different sizes are not comparable.
        seed: of the random weights, those of `mprt` with the same seed.
    """

    chance: ClassVar[str] = "0 for what ignores the model"
    formula: ClassVar[str] = "(H(m(f_random)) - H(m(f))) / H(m(f)), H of the histogram of m"
    paper: ClassVar[str] = "Hedstroem et al., XAI in Action workshop at NeurIPS 2023"

    bins: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least("bins", self.bins, 2)

    def cost(self) -> Cost:
        """Return one map."""
        return Cost(explanations=1)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the relative rise for each case."""
        if not cases:
            return []
        try:
            found = randomized(bench, cases, TOP_DOWN, 1, self.seed)
        except ModelError:
            return [Excluded(CANNOT_BE_COPIED) for _ in cases]
        return [self._rise(case, maps[0]) for case, maps in zip(cases, found, strict=True)]

    def _rise(self, case: Case, random: Further) -> Verdict:
        if isinstance(random, Excluded):
            return random
        own = histogram_entropy(case.found.grid, self.bins)
        return Measured((histogram_entropy(random.grid, self.bins) - own) / own, 0.0)


def histogram_entropy(grid: Grid, bins: int) -> float:
    """Return the entropy in nats of the histogram of values with bins of equal width."""
    return float(entropy(np.histogram(grid.astype(np.float64), bins)[0]))
