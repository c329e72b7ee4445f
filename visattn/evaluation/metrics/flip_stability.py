"""Flip stability: is the map of the mirrored photo the mirrored map?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.metrics.comparison import Comparison
from visattn.evaluation.metrics.metric import Cost, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.rerun import Further, kept_target, rerun
from visattn.evaluation.sample import Excluded
from visattn.options import require_choice
from visattn.saliency import SaliencyMap

AXES = {"horizontal": 1, "vertical": 0}


@METRICS.register("flip_stability")
@dataclass(frozen=True)
class FlipStability(Comparison):
    """Similarity of a map with the map of the mirrored input, mirrored back.

    ``sim(m(x), flip(m(flip(x))))`` for the same class. Where the cells do not cover the input
    evenly their mirror images are no cells: excluded. Depends on ranks only where ``similarity`` is
    ``spearman`` or ``iou`` and not ``absolute``. The input is mirrored after preprocessing.

    Attributes:
        direction: ``horizontal``, left and right are exchanged, or ``vertical``.
    """

    chance: ClassVar[str] = "about 0"
    rank_only: ClassVar[bool] = True
    formula: ClassVar[str] = "sim(m(x), flip(m(flip(x))))"
    paper: ClassVar[str] = "visattn; stability as in Alvarez-Melis & Jaakkola, NeurIPS 2018"

    direction: str = "horizontal"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("direction", self.direction, AXES)

    def cost(self) -> Cost:
        """Return one map."""
        return Cost(explanations=1)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the similarity for each case."""
        axis = AXES[self.direction]
        wanted = (
            (case, bench.model.prepare_tensor(case.tensor.flip(1 + axis)), kept_target(case))
            for case in cases
        )
        pairs = zip(cases, rerun(bench, wanted), strict=True)
        return [self._verdict(case, found, axis) for case, found in pairs]

    def _verdict(self, case: Case, found: Further, axis: int) -> Verdict:
        if isinstance(found, Excluded):
            return found
        if not _covers(case.found, axis):
            return Excluded("the cells do not cover the input evenly")
        mirrored = found.grid[:, ::-1] if axis else found.grid[::-1]
        return self.compared([(case.found.grid, mirrored)])


def _covers(found: SaliencyMap, axis: int) -> bool:
    chain, size = found.geometry.grid_to_input, found.geometry.input
    reach = chain.scale[axis] * found.grid.shape[axis]
    return math.isclose(2 * chain.offset[axis] + reach, size[axis], rel_tol=1e-6)
