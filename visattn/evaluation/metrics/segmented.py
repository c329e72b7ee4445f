"""Segmented: what the metrics of the segmentation test share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from visattn.evaluation.localization import COVERING, Mask, Values
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.metric import Verdict
from visattn.evaluation.sample import EVIDENCE, Excluded, Sample
from visattn.evaluation.segmentation import on_input
from visattn.saliency import SaliencyMap

SMALL = "mask between the pixels of the input"


@dataclass(frozen=True)
class Segmented(Located):
    """A metric of a map and the evidence on the model's input.

    A mask so small that it holds no centre of an input pixel is excluded too.
    """

    @abstractmethod
    def cut(self, values: Values, inside: Mask) -> Measured:
        """Return what a map in 0..1 gets for the mask's pixels, (pixel,) each."""

    def judged(self, found: SaliencyMap, sample: Sample) -> Verdict:
        """Return what a map gets on the input."""
        values, inside = on_input(found, sample.masks[EVIDENCE])
        if not inside.any():
            return Excluded(SMALL)
        return Excluded(COVERING) if inside.all() else self.cut(values, inside)
