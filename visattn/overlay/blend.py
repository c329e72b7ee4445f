"""Layers over a photo: float arithmetic, one clip and one rounding at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from visattn.geometry import Array
from visattn.images import Pixels
from visattn.overlay.scale import Scale

Canvas = npt.NDArray[np.float64]
Coverage = npt.NDArray[np.uint8]
Selection = npt.NDArray[np.bool_]
Layer = Callable[[Canvas, slice], Canvas]

BAND = 256
LUMA = np.array([0.299, 0.587, 0.114])


def compose(pixels: Pixels, layers: Iterable[Layer]) -> Pixels:
    """Return a copy of ``pixels`` (height, width, 3) with every layer laid on, first one lowest.

    Works through bands of rows, so that a large photo never becomes a float64 array as a whole.
    A layer owns the band it is handed, a fresh float64 copy, and may write to it.
    """
    layers = list(layers)
    drawn = np.empty_like(pixels)
    for start in range(0, len(pixels), BAND):
        rows = slice(start, start + BAND)
        band = pixels[rows].astype(np.float64)
        for layer in layers:
            band = layer(band, rows)
        drawn[rows] = np.rint(np.clip(band, 0.0, 255.0)).astype(np.uint8)
    return drawn


def paint(values: Array, scale: Scale, opacity: float) -> Layer:
    """Lay colour on: ``(1 - a) photo + a colour`` with ``a = opacity |value|``, 0 where NaN."""

    def layer(band: Canvas, rows: slice) -> Canvas:
        known = np.nan_to_num(values[rows].astype(np.float64))
        alpha: Canvas = opacity * np.abs(known)[..., None]
        return (1 - alpha) * band + alpha * scale.colours(known)

    return layer


def ink(coverage: Coverage, colour: str, opacity: float = 1.0) -> Layer:
    """Lay one colour on where ``coverage`` (0 to 255, antialiased) says so."""
    tone = np.array(ImageColor.getrgb(colour)[:3], np.float64)

    def layer(band: Canvas, rows: slice) -> Canvas:
        touched = coverage[rows] > 0
        alpha = opacity * (coverage[rows][touched].astype(np.float64) / 255.0)[:, None]
        band[touched] = (1 - alpha) * band[touched] + alpha * tone
        return band

    return layer


def dim(kept: Array, strength: float) -> Layer:
    """Darken to ``1 - strength`` where ``kept`` (0 to 1) is 0."""

    def layer(band: Canvas, rows: slice) -> Canvas:
        factor: Canvas = 1.0 - strength * (1.0 - kept[rows].astype(np.float64))
        return band * factor[..., None]

    return layer


def grey(hidden: Selection, strength: float, towards: float) -> Layer:
    """Take the colour out of ``hidden`` pixels, and ``strength`` of their contrast to a grey."""

    def layer(band: Canvas, rows: slice) -> Canvas:
        away = hidden[rows]
        band[away] = ((1 - strength) * (band[away] @ LUMA) + strength * towards)[:, None]
        return band

    return layer
