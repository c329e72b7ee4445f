"""Energy pointing game: the share of the map's mass that lies on the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.localization import energy_pointing
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.sample import EVIDENCE, Sample
from visattn.saliency import SaliencyMap


@METRICS.register("energy_pointing")
@dataclass(frozen=True)
class EnergyPointing(Located):
    """``sum_mask m^+ / sum m^+`` on the upright photo; see `localization.energy_pointing`.

    Wang et al., CVPR workshops 2020 (with boxes).
    """

    chance: ClassVar[str] = "area of the mask"
    formula: ClassVar[str] = "sum_mask m^+ / sum m^+"
    paper: ClassVar[str] = "Wang et al., CVPR workshops 2020"

    def judged(self, found: SaliencyMap, sample: Sample) -> Measured:
        """Return the share of the map's positive mass on the evidence."""
        return energy_pointing(found, sample.masks[EVIDENCE])
