"""Segmentation test without a threshold: average precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.localization import Mask, Values
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.metrics.segmented import Segmented
from visattn.evaluation.precision import average_precision
from visattn.evaluation.segmentation import two_sided_precision


@METRICS.register("segmentation_map")
@dataclass(frozen=True)
class SegmentationMeanAp(Segmented):
    """Average precision of object and background in one ranking, the mean over images.

    Of ``[1 - m, m]`` against ``[1 - mask, mask]``, flattened together, with m scaled to 0..1 on the
    model's input; see `visattn.evaluation.segmentation`. Published as mAP. Not rank-only, because a
    value of the object is ranked among values of the background.

    Chefer, Gur & Wolf, CVPR 2021.
    """

    chance: ClassVar[str] = "1/2"
    formula: ClassVar[str] = "AP of [1 - m, m] against [1 - mask, mask]"
    paper: ClassVar[str] = "Chefer, Gur & Wolf, CVPR 2021"

    def cut(self, values: Values, inside: Mask) -> Measured:
        """Return the average precision of both classes together."""
        return Measured(two_sided_precision(values, inside), 0.5)


@METRICS.register("segmentation_ap")
@dataclass(frozen=True)
class SegmentationAp(Segmented):
    """Average precision of the map as a detector of the object's pixels, the mean over images.

    ``sum_n (R_n - R_{n-1}) P_n`` over thresholds on the model's input; see
    `precision.average_precision`. Of pixels it depends on ranks only, which a monotone transform of
    coarse cells moves a little, because they are spread bilinear over the input.

    Everingham et al., IJCV 2010, without interpolation.
    """

    chance: ClassVar[str] = "area of the mask"
    rank_only: ClassVar[bool] = True
    formula: ClassVar[str] = "sum_n (R_n - R_{n-1}) P_n"
    paper: ClassVar[str] = "Everingham et al., IJCV 2010"

    def cut(self, values: Values, inside: Mask) -> Measured:
        """Return the average precision of the object."""
        return Measured(average_precision(values, inside), float(inside.mean()))
