"""ABPC, area between perturbation curves (Samek et al., TNNLS 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visattn.evaluation.case import LOGIT, Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import Values, Verdict
from visattn.evaluation.metrics.perturbation import Perturbation, shares_of
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import Band, Path, least, most


@dataclass(frozen=True)
class BothOrders(Perturbation):
    """Units are removed in both orders, the most and the least relevant first.

    2 K - 1 forward passes with K = ``steps``: without all units both orders are the same.
    """

    score: str = LOGIT
    steps: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        shares_of(self.steps)

    def bands(self) -> Sequence[Band]:
        """Return more and more units of both orders."""
        return [order(share) for order in (most, least) for share in shares_of(self.steps)]

    def gap(self, path: Path) -> Values:
        """Return by how much the least relevant first leave a higher score (point,)."""
        scores = self.along(path, self.bands()).reshape(2, -1)
        return np.asarray(scores[1] - scores[0])


@METRICS.register("abpc")
@dataclass(frozen=True)
class Abpc(BothOrders):
    """Mean distance of the scores when the least and when the most relevant units go first.

    ``1 / (K + 1) sum_{k=0..K} (y_k^LeRF - y_k^MoRF)`` of the logit, K = ``steps``: `aopc` minus
    `aopc_lerf`. 2 K - 1 forward passes. A map and its negative have opposite values.

    Samek et al., TNNLS 2017; as the area between both curves Schulz et al., ICLR 2020.
    """

    chance: ClassVar[str] = "0"
    formula: ClassVar[str] = "1/(K+1) sum_k (y_k^LeRF - y_k^MoRF)"
    paper: ClassVar[str] = "Samek et al., TNNLS 2017"

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the mean distance."""
        del case
        return Measured(float(self.gap(path).mean()), 0.0)
