"""Energy relative to the area: how much denser the map is on the evidence than elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.localization import energy_pointing
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.sample import EVIDENCE, Sample
from visattn.saliency import SaliencyMap


@METRICS.register("energy_ratio")
@dataclass(frozen=True)
class EnergyRatio(Located):
    """The energy pointing game divided by the mask's share of the area that the model saw.

    1 is a map that is even; the most is one over the area, so that a mean over samples is dominated
    by small masks. See `localization.energy_pointing`.

    Wang et al., CVPR workshops 2020, for the energy.
    """

    chance: ClassVar[str] = "1"
    formula: ClassVar[str] = "(sum_mask m^+ / sum m^+) / (area of the mask / area)"
    paper: ClassVar[str] = "Wang et al., CVPR workshops 2020"

    def judged(self, found: SaliencyMap, sample: Sample) -> Measured:
        """Return the share of the map's positive mass on the evidence over that of the area."""
        share = energy_pointing(found, sample.masks[EVIDENCE])
        return Measured(share.value / (share.chance or 1.0), 1.0)
