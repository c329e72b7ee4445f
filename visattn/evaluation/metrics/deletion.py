"""Deletion (Petsiuk, Das & Saenko, BMVC 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import LOWER, Verdict
from visattn.evaluation.metrics.perturbation import Perturbation, area, shares_of
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import Band, Path, most


@METRICS.register("deletion")
@dataclass(frozen=True)
class Deletion(Perturbation):
    """Area under the score while the most relevant units are removed first.

    ``(sum_k y_k - y_0 / 2 - y_K / 2) / K`` with y_k the probability without the first k / K of the
    units, K = ``steps``. With ``unit=1`` and an input of 224 x 224 the paper's 1792 pixels a step.
    K forward passes.

    Petsiuk, Das & Saenko, BMVC 2018, but by default whole patches, see `Perturbation`.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "that of a random map on the same samples"
    formula: ClassVar[str] = "trapezoid of y(most relevant k/K removed) over k/K"
    paper: ClassVar[str] = "Petsiuk, Das & Saenko, BMVC 2018"

    steps: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        shares_of(self.steps)

    def bands(self) -> Sequence[Band]:
        """Return the most relevant units, more and more."""
        return [most(share) for share in shares_of(self.steps)]

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the area."""
        del case
        return Measured(area(self.along(path, self.bands())))
