"""Comparison: metrics that set a map against further maps of the same case."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import Metric, Verdict
from visattn.evaluation.rerun import NO_SIGNAL, Further
from visattn.evaluation.sample import Excluded
from visattn.evaluation.similarity import SIMILARITIES, SPEARMAN, SSIM, Grid, similarity
from visattn.options import require_choice


@dataclass(frozen=True)
class Comparison(Metric):
    """A metric whose value is a similarity of maps, see `visattn.evaluation.similarity`.

    Attributes:
        similarity: ``spearman``, ``ssim`` or ``iou`` of the highest tenth.
        absolute: whether magnitudes are compared instead of signed values.
    """

    similarity: str = SPEARMAN
    absolute: bool = False

    def __post_init__(self) -> None:
        require_choice("similarity", self.similarity, SIMILARITIES)

    def ranks_alone(self) -> bool:
        """Return whether neither values nor signs count: ``ssim`` reads the one."""
        return self.rank_only and self.similarity != SSIM and not self.absolute

    def compared(self, pairs: Iterable[tuple[Grid, Grid]]) -> Verdict:
        """Return the mean similarity of pairs of maps, `Excluded` where one has none."""
        values = [similarity(one, other, self.similarity, self.absolute) for one, other in pairs]
        value = float(np.mean(values))
        return Excluded(NO_SIGNAL) if math.isnan(value) else Measured(value)


def first_excluded(maps: Iterable[Further]) -> Excluded | None:
    """Return why the first map that is missing is, or None."""
    return next((found for found in maps if isinstance(found, Excluded)), None)
