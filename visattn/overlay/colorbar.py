"""The colour bar: which raw value each colour stands for."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from visattn.geometry import Array
from visattn.images import Pixels
from visattn.overlay.blend import compose, paint
from visattn.overlay.scale import Scale
from visattn.overlay.strip import Sheet
from visattn.overlay.text import shorten

CHECKS = (255, 205)


def colorbar(scale: Scale, grid: Array, opacity: float, sheet: Sheet) -> PillowImage.Image:
    """Return a strip with the scale from its low to its high end, as painted, over a chessboard.

    Below it stand the raw values of both ends (and the zero of a diverging scale), with a <= or >=
    sign where cells lie beyond, and the name of the normalisation.
    """
    bar = PillowImage.fromarray(paint_bar(scale, opacity, round(sheet.size * 1.1), sheet.room))
    ImageDraw.Draw(bar).rectangle((0, 0, bar.width - 1, bar.height - 1), outline=sheet.pale)
    low, high = end_labels(scale, grid)
    name = f"normalisation: {scale.name}"
    one_line = not scale.diverging and _fits([low, name, high], sheet)
    height = 2 * sheet.margin + bar.height + sheet.leading * (1 if one_line else 2)
    strip = sheet.blank(height)
    strip.paste(bar, (sheet.margin, sheet.margin))
    pen = ImageDraw.Draw(strip)
    first = sheet.margin + bar.height + sheet.leading / 2 + sheet.size * 0.15
    second = first if one_line else first + sheet.leading
    face, middle = sheet.face(), sheet.width / 2
    pen.text((sheet.margin, first), low, sheet.ink, face, anchor="lm")
    pen.text((sheet.width - sheet.margin, first), high, sheet.ink, face, anchor="rm")
    if scale.diverging:
        pen.text((middle, first), "0", sheet.ink, face, anchor="mm")
    pen.text((middle, second), shorten(name, face, sheet.room), sheet.pale, face, anchor="mm")
    return strip


def end_labels(scale: Scale, grid: Array) -> tuple[str, str]:
    """Return the raw values of both ends, precise to a hundredth of the distance between them."""
    low, high = scale.limits
    precision = max(abs(low), abs(high)) / (high - low)
    digits = min(17, max(3, 2 + math.ceil(math.log10(precision))))
    below = "≤ " if float(grid.min()) < low else ""
    above = "≥ " if float(grid.max()) > high else ""
    return f"{below}{low:.{digits}g}", f"{above}{high:.{digits}g}"


def _fits(labels: list[str], sheet: Sheet) -> bool:
    face = sheet.face()
    left, centre, right = (face.getlength(each) for each in labels)
    return centre / 2 + max(left, right) + sheet.size < sheet.room / 2


def paint_bar(scale: Scale, opacity: float, height: int, width: int) -> Pixels:
    """Return the scale as it is painted, low end left, over a chessboard: uint8 RGB."""
    low = -1.0 if scale.diverging else 0.0
    values = np.linspace(low, 1.0, width, dtype=np.float32)
    side = max(2, height // 2)
    board = (np.arange(height)[:, None] // side + np.arange(width)[None, :] // side) % 2
    checks = np.repeat(np.array(CHECKS, np.uint8)[board][..., None], 3, axis=2)
    return compose(checks, [paint(np.tile(values, (height, 1)), scale, opacity)])
