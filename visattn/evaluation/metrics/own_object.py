"""Own object: of the mass on all objects, the share on the one that is explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.localization import own_object
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.sample import EVIDENCE, OTHERS, Sample
from visattn.saliency import SaliencyMap


@METRICS.register("own_object")
@dataclass(frozen=True)
class OwnObject(Located):
    """``E / (E + O)`` with the energies on the evidence and on the others.

    It tells a map of the target from one of everything that looks like an object: a class-agnostic
    map gets 1/2 on average over the two objects of an image. See `localization.own_object`.
    """

    chance: ClassVar[str] = "area of the own object / area of all"
    needs: ClassVar[tuple[str, ...]] = (EVIDENCE, OTHERS)
    formula: ClassVar[str] = "sum_mask m^+ / (sum_mask m^+ + sum_others m^+)"
    paper: ClassVar[str] = "visattn; the energy is Wang et al., CVPR workshops 2020"

    def judged(self, found: SaliencyMap, sample: Sample) -> Measured:
        """Return the share of the mass on objects that lies on the own one."""
        return own_object(found, sample.masks[EVIDENCE], sample.masks[OTHERS])
