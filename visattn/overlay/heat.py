"""The heat layer alone, for viewers that lay it over the photo themselves."""

from __future__ import annotations

import numpy as np

from visattn.images import Pixels, Size
from visattn.overlay.placement import spread
from visattn.overlay.scale import Scale
from visattn.overlay.style import Style
from visattn.saliency import SaliencyMap


def heat(saliency: SaliencyMap, style: Style, size: Size) -> Pixels:
    """Return colour and straight alpha at a display size, uint8 (height, width, 4), RGBA.

    Alpha is ``255 |drawn value|``: full opacity, which the viewer scales (``style.opacity`` is not
    in it). Everything is 0 where the map is zero, where the model saw nothing, and for a map
    without signal. Raises `ImageError` when ``size`` has not the photo's aspect.
    """
    size = Size(*size)
    layer = np.zeros((*size, 4), np.uint8)
    raw = spread(saliency, size, style.interpolation)
    scale = Scale.of(saliency, style)
    if saliency.no_signal or scale.empty:
        return layer
    values = np.nan_to_num(scale.values(raw).astype(np.float64))
    alpha = np.rint(255 * np.abs(values)).astype(np.uint8)
    painted = alpha > 0
    layer[painted, :3] = np.rint(scale.colours(values[painted])).astype(np.uint8)
    layer[..., 3] = alpha
    return layer
