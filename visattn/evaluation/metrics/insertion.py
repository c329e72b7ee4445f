"""Insertion (Petsiuk, Das & Saenko, BMVC 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import Verdict
from visattn.evaluation.metrics.perturbation import Perturbation, area, shares_of
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import Band, Path, after


@METRICS.register("insertion")
@dataclass(frozen=True)
class Insertion(Perturbation):
    """Area under the score while units come back into a blurred input, the most relevant first.

    As `Deletion`, with y_k the probability of an input of which only the first k / K of the units
    are there. K forward passes. Blurred inputs already have a score, so values of different fills
    or models do not compare.

    Petsiuk, Das & Saenko, BMVC 2018, but by default whole patches, see `Perturbation`.
    """

    chance: ClassVar[str] = "that of a random map on the same samples"
    formula: ClassVar[str] = "trapezoid of y(only most relevant k/K there) over k/K"
    paper: ClassVar[str] = "Petsiuk, Das & Saenko, BMVC 2018"

    fill: str = "blur"
    steps: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        shares_of(self.steps)

    def bands(self) -> Sequence[Band]:
        """Return all but the most relevant units, fewer and fewer."""
        return [after(share) for share in shares_of(self.steps)]

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the area."""
        del case
        return Measured(area(self.along(path, self.bands())))
