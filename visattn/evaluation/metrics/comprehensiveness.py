"""Comprehensiveness (DeYoung et al., ACL 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import Verdict
from visattn.evaluation.metrics.perturbation import Perturbation, fractions_of
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import NOTHING, Band, Path, most

BINS = (0.01, 0.05, 0.1, 0.2, 0.5)


@METRICS.register("comprehensiveness")
@dataclass(frozen=True)
class Comprehensiveness(Perturbation):
    """What the probability loses without the most relevant units.

    ``mean_q p(x) - p(x without the top q)`` over the ``fractions`` q, the paper's 1, 5, 10, 20 and
    50 %. One forward pass for each.

    DeYoung et al., ACL 2020, for words of a text.
    """

    chance: ClassVar[str] = "that of a random map on the same samples"
    formula: ClassVar[str] = "mean_q p(x) - p(x without top q)"
    paper: ClassVar[str] = "DeYoung et al., ACL 2020"

    fractions: Any = BINS

    def __post_init__(self) -> None:
        super().__post_init__()
        fractions_of(self.fractions)

    def bands(self) -> Sequence[Band]:
        """Return the most relevant units, for each fraction."""
        return [most(fraction) for fraction in fractions_of(self.fractions)]

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the mean loss."""
        del case
        return Measured(
            float((self.along(path, [NOTHING]) - self.along(path, self.bands())).mean())
        )
