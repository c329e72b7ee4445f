"""Segmentation test at a threshold: pixel accuracy and mean intersection over union."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from visattn.evaluation.localization import Mask, Values
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.metrics.segmented import Segmented
from visattn.evaluation.segmentation import accuracy, counts, mean_iou
from visattn.options import require_at_least

PAPER = "Chefer, Gur & Wolf, CVPR 2021"


@METRICS.register("segmentation_accuracy")
@dataclass(frozen=True)
class SegmentationAccuracy(Segmented):
    """Share of pixels on the right side of the map's mean, over the pixels of all images.

    Object is where ``m > mean m``, on the model's input; see `visattn.evaluation.segmentation`. An
    even map calls everything background. Not rank-only: the mean moves.

    Chefer, Gur & Wolf, CVPR 2021.
    """

    chance: ClassVar[str] = "area of the background"
    formula: ClassVar[str] = "share of pixels with (m > mean m) = mask"
    paper: ClassVar[str] = PAPER

    def cut(self, values: Values, inside: Mask) -> Measured:
        """Return the share of one image, with its counts."""
        parts = tuple(map(float, counts(values > values.mean(), inside)))
        return Measured(float(self.aggregate(np.array([parts]))), 1 - float(inside.mean()), parts)

    def aggregate(self, parts: Values) -> Values:
        """Return the share (...) from counts (..., map, part), added up over maps."""
        return accuracy(*np.moveaxis(parts.sum(axis=-2), -1, 0))


@METRICS.register("segmentation_miou")
@dataclass(frozen=True)
class SegmentationMeanIou(Segmented):
    """Intersection over union of object and background, cut at the map's mean, and their mean.

    Intersections and unions are added up over the data set before they are divided, as published:
    the value of a data set is no mean of the values of its images. Object is where ``m > mean m``,
    on the model's input; see `visattn.evaluation.segmentation`. Not rank-only: the mean moves.

    Chefer, Gur & Wolf, CVPR 2021.
    """

    chance: ClassVar[str] = "half the area of the background"
    formula: ClassVar[str] = "(IoU of {m > mean m} + IoU of {m <= mean m}) / 2"
    paper: ClassVar[str] = PAPER

    def cut(self, values: Values, inside: Mask) -> Measured:
        """Return the mean of one image, with its counts."""
        parts = tuple(map(float, counts(values > values.mean(), inside)))
        chance = (1 - float(inside.mean())) / 2
        return Measured(float(self.aggregate(np.array([parts]))), chance, parts)

    def aggregate(self, parts: Values) -> Values:
        """Return the mean (...) from counts (..., map, part), added up over maps."""
        return mean_iou(*np.moveaxis(parts.sum(axis=-2), -1, 0))


@METRICS.register("segmentation_best_miou")
@dataclass(frozen=True)
class SegmentationBestMeanIou(Segmented):
    """`segmentation_miou` at the one threshold that suits a method and a data set best.

    Object is where ``m >= t`` with m scaled to 0..1 on the model's input and t one of 0, 1/steps ..
    1, the same for all maps. Optimistic: the threshold is chosen by the masks that it is judged on,
    and again in every resample of a bootstrap. It tells methods apart whose maps differ in contrast
    only.

    Attributes:
        steps: how many parts the range of a map is cut into.

    Chefer, Gur & Wolf, CVPR 2021, who cut at the mean.
    """

    chance: ClassVar[str] = "not known in closed form: see the controls"
    formula: ClassVar[str] = "max_t (IoU of {m >= t} + IoU of {m < t}) / 2"
    paper: ClassVar[str] = PAPER

    steps: int = 100

    def __post_init__(self) -> None:
        require_at_least("steps", self.steps, 1)

    def cut(self, values: Values, inside: Mask) -> Measured:
        """Return the mean at one image's own best threshold, with its counts at all."""
        # Of pixels by the highest threshold that they reach, and of all above it.
        reached = np.searchsorted(np.linspace(0, 1, self.steps + 1), values, side="right") - 1
        both, chosen = (
            np.bincount(each, minlength=self.steps + 1)[::-1].cumsum()[::-1]
            for each in (reached[inside], reached)
        )
        parts = (*both.tolist(), *chosen.tolist(), int(inside.sum()), len(inside))
        known = tuple(map(float, parts))
        return Measured(float(self.aggregate(np.array([known]))), None, known)

    def aggregate(self, parts: Values) -> Values:
        """Return the best mean (...) from counts (..., map, part), added up over maps."""
        total = parts.sum(axis=-2)
        levels = self.steps + 1
        both, chosen = total[..., :levels], total[..., levels : 2 * levels]
        best: Values = mean_iou(both, chosen, total[..., -2, None], total[..., -1, None]).max(-1)
        return best
