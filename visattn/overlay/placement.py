"""A map at another display size of its photo."""

from __future__ import annotations

from dataclasses import replace

from visattn.errors import ImageError
from visattn.geometry import Affine, Array, Geometry
from visattn.images import Size
from visattn.saliency import SaliencyMap


def resized(geometry: Geometry, size: Size) -> Geometry:
    """Return the chain for the photo shown at ``size``.

    Raises `ImageError` when ``size`` has not the photo's aspect within one pixel.
    """
    height, width = geometry.original
    by_height, by_width = size.height / height, size.width / width
    off = min(abs(size.width - width * by_height), abs(size.height - height * by_width))
    if off > 1 or min(size) < 1:
        raise ImageError(
            f"A photo of {width} x {height} pixels cannot be shown at {size.width} x "
            f"{size.height}: the shape differs."
        )
    shown = geometry.input_to_original.then(Affine((by_height, by_width)))
    return replace(geometry, original=size, input_to_original=shown)


def spread(saliency: SaliencyMap, size: Size, interpolation: str) -> Array:
    """Return raw values at display size, float32 (height, width), NaN where unseen."""
    return resized(saliency.geometry, size).on_original(saliency.grid, interpolation)
