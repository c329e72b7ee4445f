"""Relevance rank accuracy: the share of the evidence among as many highest pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.localization import rank_accuracy
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.sample import EVIDENCE, Sample
from visattn.saliency import SaliencyMap


@METRICS.register("rank_accuracy")
@dataclass(frozen=True)
class RankAccuracy(Located):
    """``|top-K pixels in mask| / K`` with K the pixels of the mask.

    See `localization.rank_accuracy`. Of pixels it depends on ranks only, which a monotone transform
    of coarse cells moves a little, because they are spread bilinear over the photo.

    Arras, Osman & Samek, Information Fusion 2022.
    """

    chance: ClassVar[str] = "area of the mask"
    rank_only: ClassVar[bool] = True
    formula: ClassVar[str] = "|top-K pixels in mask| / K, K = |mask|"
    paper: ClassVar[str] = "Arras, Osman & Samek, Information Fusion 2022"

    def judged(self, found: SaliencyMap, sample: Sample) -> Measured:
        """Return the share of the evidence among the K highest pixels."""
        return rank_accuracy(found, sample.masks[EVIDENCE])
