"""AOPC, area over the perturbation curve (Samek et al., TNNLS 2017), in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from visattn.evaluation.case import LOGIT, Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import LOWER, Verdict
from visattn.evaluation.metrics.perturbation import Perturbation, shares_of
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import Band, Path, least, most


@METRICS.register("aopc")
@dataclass(frozen=True)
class Aopc(Perturbation):
    """Mean fall of the score while the most relevant units are removed first (MoRF).

    ``1 / (K + 1) sum_{k=0..K} (y_0 - y_k)`` with y_k the logit without the first k / K of the
    units, K = ``steps``. K forward passes.

    Samek, Binder, Montavon, Lapuschkin & Mueller, TNNLS 2017, who remove 100 regions of 9 x 9
    pixels, a part of the input, and put random colours there; here all units go.
    """

    chance: ClassVar[str] = "that of a random map on the same samples"
    formula: ClassVar[str] = "1/(K+1) sum_k (y_0 - y_k), most relevant first"
    paper: ClassVar[str] = "Samek et al., TNNLS 2017"

    score: str = LOGIT
    steps: int = 28

    def __post_init__(self) -> None:
        super().__post_init__()
        shares_of(self.steps)

    def bands(self) -> Sequence[Band]:
        """Return more and more units of the order."""
        return [self.removed(share) for share in shares_of(self.steps)]

    def removed(self, share: Fraction) -> Band:
        """Return a share of the units, from one end of the order."""
        return most(share)

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the mean fall."""
        del case
        scores = self.along(path, self.bands())
        return Measured(float((scores[0] - scores).mean()))


@METRICS.register("aopc_lerf")
@dataclass(frozen=True)
class AopcLerf(Aopc):
    """Mean fall of the score while the least relevant units are removed first (LeRF); see `Aopc`.

    Samek et al., TNNLS 2017.
    """

    better: ClassVar[str] = LOWER
    formula: ClassVar[str] = "1/(K+1) sum_k (y_0 - y_k), least relevant first"

    def removed(self, share: Fraction) -> Band:
        """Return the least relevant units."""
        return least(share)
