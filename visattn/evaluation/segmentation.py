"""Segmentation test: a map, cut at a threshold, as a mask of the object.

Images are compared on the model's input, all of one size, so that each counts the same: the map is
spread bilinear over it, and the photo's mask is read at the centre of every input pixel. Input
pixels outside the photo (padding) and outside the map's grid are left out.

Chefer, Gur & Wolf, CVPR 2021, after Guillaumin, Kuettel & Ferrari, IJCV 2014.
"""

from __future__ import annotations

import numpy as np

from visattn.evaluation.localization import Mask, Values
from visattn.evaluation.precision import average_precision
from visattn.saliency import SaliencyMap


def on_input(found: SaliencyMap, mask: Mask) -> tuple[Values, Mask]:
    """Return a map scaled to 0..1 and a mask of the photo at pixels of the input, (pixel,) each.

    ``(m - min m) / (max m - min m)`` over these pixels; a constant map is zero everywhere.
    """
    spread = found.on_input().astype(np.float64)
    chain = found.geometry.input_to_original
    places = [
        np.floor(chain.scale[axis] * (np.arange(extent) + 0.5) + chain.offset[axis]).astype(int)
        for axis, extent in enumerate(spread.shape)
    ]
    known = [
        (place >= 0) & (place < extent) for place, extent in zip(places, mask.shape, strict=True)
    ]
    inside = mask[np.ix_(places[0][known[0]], places[1][known[1]])]
    values = spread[np.ix_(*known)]
    covered = np.isfinite(values)
    values, inside = values[covered], inside[covered]
    low, high = values.min(), values.max()
    return (values - low) / (high - low if high > low else 1.0), inside


def counts(chosen: Mask, inside: Mask) -> tuple[int, int, int, int]:
    """Return how many pixels are chosen and inside, chosen, inside, and all."""
    return int((chosen & inside).sum()), int(chosen.sum()), int(inside.sum()), len(inside)


def accuracy(both: Values, chosen: Values, inside: Values, total: Values) -> Values:
    """Return the share of pixels that are chosen and inside, or neither, from `counts`."""
    share: Values = (total - chosen - inside + 2 * both) / total
    return share


def mean_iou(both: Values, chosen: Values, inside: Values, total: Values) -> Values:
    """Return the mean of intersection over union of the object and of the background.

    Of `counts`, of one image or added up over many. A background that is neither there nor chosen
    anywhere has no union and counts as 1.
    """
    nothing = total - chosen - inside + both
    object_ = both / (chosen + inside - both)
    union = total - both
    ground = np.divide(nothing, union, out=np.ones_like(object_), where=union > 0)
    mean: Values = (object_ + ground) / 2
    return mean


def two_sided_precision(values: Values, inside: Mask) -> float:
    """Return the average precision of ``[1 - m, m]`` against ``[1 - mask, mask]`` in one ranking.

    As published under the name of mAP. Object and background share one ranking, so that it changes
    under monotone transforms of the map.
    """
    return average_precision(
        np.concatenate([1 - values, values]), np.concatenate([~inside, inside])
    )
