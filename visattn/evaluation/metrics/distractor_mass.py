"""Distractor mass: the share of the map's mass on things that say nothing of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.localization import energy_pointing
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.metric import LOWER
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.sample import DISTRACTORS, Sample
from visattn.saliency import SaliencyMap


@METRICS.register("distractor_mass")
@dataclass(frozen=True)
class DistractorMass(Located):
    """``sum_distractors m^+ / sum m^+`` on the upright photo; see `localization.energy_pointing`.

    Where a distractor lies on the evidence its pixels are part of both.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "area of the distractors"
    needs: ClassVar[tuple[str, ...]] = (DISTRACTORS,)
    formula: ClassVar[str] = "sum_distractors m^+ / sum m^+"
    paper: ClassVar[str] = "visattn; the energy is Wang et al., CVPR workshops 2020"

    def judged(self, found: SaliencyMap, sample: Sample) -> Measured:
        """Return the share of the map's positive mass on distractors."""
        return energy_pointing(found, sample.masks[DISTRACTORS])
