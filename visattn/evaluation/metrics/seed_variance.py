"""Seed variance: is the map another one with other random numbers?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.metrics.comparison import Comparison, first_excluded
from visattn.evaluation.metrics.metric import Cost, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.rerun import Further, kept_target, rerun
from visattn.evaluation.sample import Excluded
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.models import Model
from visattn.options import require_at_least

SEED = "seed"


@METRICS.register("seed_variance")
@dataclass(frozen=True)
class SeedVariance(Comparison):
    """Mean similarity between the maps of several seeds of one method; higher is better.

    ``mean_{i<j} sim(m_i, m_j)`` over the method's own seed and the numbers after it. A method
    without an option ``seed`` is deterministic and refused. Depends on ranks only where
    ``similarity="spearman"`` and not ``absolute``, and all maps are transformed alike.

    Attributes:
        seeds: how many, the one of the map itself included.
    """

    chance: ClassVar[str] = "about 0"
    rank_only: ClassVar[bool] = True
    formula: ClassVar[str] = "mean over pairs of seeds of sim(m_i, m_j)"
    paper: ClassVar[str] = "visattn"

    seeds: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("seeds", self.seeds, 2)

    def cost(self) -> Cost:
        """Return one map for each further seed."""
        return Cost(explanations=self.seeds - 1)

    def refusal(self, model: Model, trial: Trial, size: Size) -> str | None:
        """Refuse methods that draw no random numbers."""
        del model, size
        options = trial.build().options()
        return None if SEED in options else f"{trial.method} is deterministic: it has no seed"

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the mean similarity over pairs of seeds for each case."""
        if not cases:
            return []
        wanted = [(case, case.sample.prepared, kept_target(case)) for case in cases]
        by_seed = [
            list(rerun(bench, wanted, trial=trial)) for trial in self._trials(cases[0].trial)
        ]
        further = zip(*by_seed, strict=True)
        return [self._verdict(case, maps) for case, maps in zip(cases, further, strict=True)]

    def _trials(self, trial: Trial) -> list[Trial]:
        first = int(trial.build().options()[SEED])
        return [
            replace(trial, options={**trial.options, SEED: first + number})
            for number in range(1, self.seeds)
        ]

    def _verdict(self, case: Case, maps: Sequence[Further]) -> Verdict:
        missing = first_excluded(maps)
        if missing is not None:
            return missing
        others = [found.grid for found in maps if not isinstance(found, Excluded)]
        return self.compared(combinations([case.found.grid, *others], 2))
