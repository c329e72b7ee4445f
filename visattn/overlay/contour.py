"""Contours: the level sets of a drawn map as lines on the photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from skimage import measure

from visattn.geometry import Geometry
from visattn.images import Size
from visattn.overlay.placement import resized, spread
from visattn.overlay.scale import Scale
from visattn.overlay.stroke import Path
from visattn.saliency import SaliencyMap

FINEST = 1024


def contours(
    saliency: SaliencyMap, scale: Scale, levels: Sequence[float], interpolation: str = "bilinear"
) -> list[Path]:
    """Return the lines where the drawn value is a level, (points, 2) as (row, col) on the photo.

    Traced on at most `FINEST` pixels along the longer side: a grid has far fewer cells, so finer
    tracing moves no line. Lines end where the region the model saw ends.
    """
    if scale.empty or saliency.no_signal:
        return []
    size = _tracing_size(saliency.geometry)
    if min(size) < 2:
        return []
    values = scale.values(spread(saliency, size, interpolation)).astype(np.float64)
    factor = np.array(saliency.geometry.original) / np.array(size)
    return [(path + 0.5) * factor for level in levels for path in _trace(values, level)]


def _trace(values: npt.NDArray[np.float64], level: float) -> list[Path]:
    lines: list[Path] = measure.find_contours(values, level)
    return lines


def _tracing_size(geometry: Geometry) -> Size:
    shrink = min(1.0, FINEST / max(geometry.original))
    height, width = (max(1, round(side * shrink)) for side in geometry.original)
    return resized(geometry, Size(height, width)).original
