"""Effective heat ratio: the mean heat on the evidence of what is hotter than quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.localization import heat_ratio
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.sample import EVIDENCE, Sample
from visattn.saliency import SaliencyMap


@METRICS.register("heat_ratio")
@dataclass(frozen=True)
class HeatRatio(Located):
    """Area over q of ``sum of h over {h >= t_q} in the mask / #{h >= t_q}``.

    See `localization.heat_ratio`.

    Zhang et al., NeurIPS 2021.
    """

    chance: ClassVar[str] = "area of the mask"
    formula: ClassVar[str] = "area over q of sum_{h >= t_q, mask} h / #{h >= t_q}"
    paper: ClassVar[str] = "Zhang et al., NeurIPS 2021"

    def judged(self, found: SaliencyMap, sample: Sample) -> Measured:
        """Return the area under the ratio over quantiles."""
        return heat_ratio(found, sample.masks[EVIDENCE])
