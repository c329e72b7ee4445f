"""SaCo, salience-guided faithfulness coefficient (Wu et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar

import numpy as np

from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import Verdict
from visattn.evaluation.metrics.perturbation import Perturbation
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import NOTHING, Band, Path
from visattn.evaluation.sample import Excluded
from visattn.options import require_at_least


@METRICS.register("saco")
@dataclass(frozen=True)
class SaCo(Perturbation):
    """Whether groups of units that the map calls more salient lower the score more.

    Units are split by rank into K = ``groups`` equal groups, G_1 the most relevant; s_i the mean of
    the map over G_i, d_i what the probability loses when G_i shows the input's mean colour:
    ``sum_{i<j} sgn(d_i >= d_j) (s_i - s_j) / sum_{i<j} |s_i - s_j|``, sgn = 1 or -1. In -1..1. K
    forward passes. Scaling and shifting the map change nothing, raising it to a power does.

    Units are patches by default (pixels of the bilinear map with ``unit=1``, as published). Where K
    does not divide their number groups differ by one unit, which is why s_i is a mean and no sum.

    Wu, Kang, Tang, Hong & Yan, CVPR 2024.
    """

    chance: ClassVar[str] = "0"
    rank_only: ClassVar[bool] = False
    formula: ClassVar[str] = "sum_{i<j} sgn(d_i >= d_j) (s_i - s_j) / sum_{i<j} |s_i - s_j|"
    paper: ClassVar[str] = "Wu et al., CVPR 2024"

    fill: str = "image_mean"
    groups: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("groups", self.groups, 2)

    def bands(self) -> Sequence[Band]:
        """Return the groups, the most relevant first."""
        edges = [Fraction(place, self.groups) for place in range(self.groups + 1)]
        return [Band(start, stop) for start, stop in pairwise(edges)]

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the coefficient."""
        del case
        members = [band.of(path.ordered.places) for band in self.bands()]
        if not all(each.any() for each in members):
            return Excluded(f"fewer than {self.groups} units")
        salience = np.array([path.ordered.relevance[each].mean() for each in members])
        loss = self.along(path, [NOTHING])[0] - self.along(path, self.bands())
        first, second = np.triu_indices(self.groups, k=1)
        distance = salience[first] - salience[second]
        sign = np.where(loss[first] >= loss[second], 1, -1)
        return Measured(float((sign * distance).sum() / np.abs(distance).sum()), 0.0)
