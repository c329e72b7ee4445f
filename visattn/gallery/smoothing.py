"""Smoothing: maps of a clip averaged over their neighbours in time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from visattn.geometry import Array


def smoothed(
    grids: Array,
    times: npt.NDArray[np.float64],
    seconds: float,
    alive: npt.NDArray[np.bool_],
) -> Array:
    """Return grids (frame, row, col), each averaged over the clip with Gaussian weights.

    ``s_i = sum_j w_ij g_j / sum_j w_ij`` with ``w_ij = exp(-(t_i - t_j)^2 / (2 seconds^2))`` over
    the frames j that are ``alive`` (frame); the weights of every frame sum to 1, at the ends of the
    clip too. Frames without a signal are neither averaged nor averaged in, and stay as they are.
    ``times`` (frame) and ``seconds`` in seconds; 0 leaves everything as it is.
    """
    result = np.array(grids, np.float32)
    if seconds <= 0 or not alive.any():
        return result
    flat = grids[alive].reshape(int(alive.sum()), -1).astype(np.float64)
    for place in np.flatnonzero(alive):
        weights = np.exp(-(((times[place] - times[alive]) / seconds) ** 2) / 2)
        result[place] = ((weights / weights.sum()) @ flat).reshape(grids.shape[1:])
    return result
