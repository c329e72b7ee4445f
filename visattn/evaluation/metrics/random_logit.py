"""Random logit: is the map of another class another map?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.comparison import Comparison
from visattn.evaluation.metrics.metric import LOWER, Cost, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.rerun import Further, rerun
from visattn.evaluation.sample import Excluded
from visattn.evaluation.seeding import generator
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.models import Model


@METRICS.register("random_logit")
@dataclass(frozen=True)
class RandomLogit(Comparison):
    """Similarity of a map with that of another class, drawn at random; lower is better.

    ``sim(m_c, m_d)``, d uniform over the classes without c. A class-agnostic method has one map for
    all classes, so it gets 1.0 by construction and fails: no map is computed for it. Depends on
    ranks only where ``similarity="spearman"`` and not ``absolute``.

    Attributes:
        seed: of the classes; with the sample's name it says which.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "1.0 for class-agnostic methods"
    rank_only: ClassVar[bool] = True
    formula: ClassVar[str] = "sim(m_c, m_d), d a random other class"
    paper: ClassVar[str] = "Sixt et al., ICML 2020"

    seed: int = 0

    def cost(self) -> Cost:
        """Return one map, none for class-agnostic methods."""
        return Cost(explanations=1, at_most=True)

    def refusal(self, model: Model, trial: Trial, size: Size) -> str | None:
        """Refuse models without a classifier."""
        del trial, size
        return None if model.has_classifier else f"{model.name} has no classes"

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the similarity for each case."""
        if cases and not cases[0].trial.class_specific:
            return [Measured(1.0, 1.0) for _ in cases]
        others = [self.other(case) for case in cases]
        wanted = [
            (case, case.sample.prepared, other)
            for case, other in zip(cases, others, strict=True)
            if other is not None
        ]
        found = rerun(bench, wanted)
        return [
            Excluded("the target is no class")
            if other is None
            else self._verdict(case, next(found))
            for case, other in zip(cases, others, strict=True)
        ]

    def other(self, case: Case) -> int | None:
        """Return the class that is set against a case's own; None where its target is no class."""
        index = case.resolved.target.index
        if index is None or case.output.ndim != 2:
            return None
        count = max(case.output.shape[1], 2)  # one output stands for two classes
        drawn = int(generator(case.sample.name, self.seed).integers(count - 1))
        return drawn + (drawn >= index)

    def _verdict(self, case: Case, found: Further) -> Verdict:
        if isinstance(found, Excluded):
            return found
        return self.compared([(case.found.grid, found.grid)])
