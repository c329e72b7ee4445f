"""Average precision of a map as a detector of the pixels of a mask."""

from __future__ import annotations

import numpy as np

from visattn.evaluation.localization import Mask, Values


def average_precision(values: Values, inside: Mask) -> float:
    """Return ``sum_n (R_n - R_{n-1}) P_n`` over the thresholds n, from the highest value down.

    ``values`` (pixel,) rank pixels, ``inside`` (pixel,) says which are to be found; P and R are
    precision and recall of everything at or above a threshold, so that tied pixels enter together.
    There is no interpolation between thresholds. Raises ValueError where nothing is to be found.
    """
    if not inside.any():
        raise ValueError("average precision needs something to be found")
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    hits = np.cumsum(inside[order])[last]
    precision, recall = hits / (last + 1), hits / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))
