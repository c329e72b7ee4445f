"""MPRT: does a map change when the model's weights become random, layer by layer?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.errors import ModelError
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.metrics.comparison import Comparison, first_excluded
from visattn.evaluation.metrics.metric import LOWER, Cost, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.randomization import ORDERS, TOP_DOWN, Randomization
from visattn.evaluation.rerun import Further, kept_target, rerun
from visattn.evaluation.sample import Excluded
from visattn.options import require_at_least, require_choice

CANNOT_BE_COPIED = "the model cannot be copied"


@METRICS.register("mprt")
@dataclass(frozen=True)
class Mprt(Comparison):
    """Mean similarity of a map with those of ever more random models, 1 for what ignores the model.

    ``1/S sum_s sim(m(f), m(f_s))``, f_s with the layers of the first s of S stages drawn anew, see
    `visattn.evaluation.randomization.Randomization`. The explained class stays the one that the
    trained model had. Input structure keeps similarity above 0, and so does a tendency to the
    centre: compare with the controls. Depends on ranks only where ``similarity="spearman"`` and not
    ``absolute``.

    Attributes:
        stages: how many; fewer where the model has fewer layers. Blocks of a network are layers.
        order: ``top_down`` from the head to the input (cascading), ``bottom_up``, or
            ``independent``, in which only the layers of one stage are random at a time.
        seed: of the random weights.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "about 0"
    rank_only: ClassVar[bool] = True
    formula: ClassVar[str] = "1/S sum_s sim(m(f), m(f with the top s stages random))"
    paper: ClassVar[str] = "Adebayo et al., NeurIPS 2018"

    stages: int = 6
    order: str = TOP_DOWN
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("order", self.order, ORDERS)
        require_at_least("stages", self.stages, 1)

    def cost(self) -> Cost:
        """Return one map for each stage, the most."""
        return Cost(explanations=self.stages, at_most=True)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the mean similarity over stages."""
        if not cases:
            return []
        try:
            found = randomized(bench, cases, self.order, self.stages, self.seed)
        except ModelError:
            return [Excluded(CANNOT_BE_COPIED) for _ in cases]
        return [self._verdict(case, maps) for case, maps in zip(cases, found, strict=True)]

    def _verdict(self, case: Case, maps: Sequence[Further]) -> Verdict:
        missing = first_excluded(maps)
        if missing is not None:
            return missing
        others = [found.grid for found in maps if not isinstance(found, Excluded)]
        return self.compared((case.found.grid, other) for other in others)


def randomized(
    bench: Bench, cases: Sequence[Case], order: str, stages: int, seed: int
) -> list[list[Further]]:
    """Return for each case its maps (stage) by models that are random from stage to stage.

    Raises `ModelError` for a model that cannot be copied.
    """
    drawn = Randomization.of(bench.model, cases[0].tensor, seed)
    wanted = [(case, case.sample.prepared, kept_target(case)) for case in cases]
    by_stage = [
        list(rerun(bench, wanted, model=model))
        for model in drawn.models(bench.model, order, stages)
    ]
    return [list(maps) for maps in zip(*by_stage, strict=True)]
