"""ROC AUC: the map as a detector of the pixels of the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.localization import roc_auc
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.sample import EVIDENCE, Sample
from visattn.saliency import SaliencyMap


@METRICS.register("roc_auc")
@dataclass(frozen=True)
class RocAuc(Located):
    """``P(m_in > m_out) + P(m_in = m_out) / 2``; see `localization.roc_auc`.

    Of pixels it depends on ranks only, which a monotone transform of coarse cells moves a little,
    because they are spread bilinear over the photo.

    Fawcett, Pattern Recognition Letters 2006.
    """

    chance: ClassVar[str] = "1/2"
    rank_only: ClassVar[bool] = True
    formula: ClassVar[str] = "P(m_in > m_out) + P(m_in = m_out) / 2"
    paper: ClassVar[str] = "Fawcett, Pattern Recognition Letters 2006"

    def judged(self, found: SaliencyMap, sample: Sample) -> Measured:
        """Return the area under the ROC curve."""
        return roc_auc(found, sample.masks[EVIDENCE])
