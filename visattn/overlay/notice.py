"""What replaces a picture of nothing: the reason, in words."""

from __future__ import annotations

from PIL import Image as PillowImage
from PIL import ImageDraw

from visattn import statistics
from visattn.images import Size
from visattn.overlay.mask import mass_box
from visattn.overlay.scale import Scale
from visattn.overlay.strip import LEADING, Line, Sheet, text_strip
from visattn.overlay.style import Style
from visattn.overlay.text import font, font_size, printable, shorten, wrap
from visattn.saliency import SaliencyMap

SHADE = (20, 20, 20)
PAPER = (255, 255, 255)
TINIEST = 6


def notice(saliency: SaliencyMap, style: Style, scale: Scale) -> str | None:
    """Return why something asked for cannot be drawn, or None."""
    if saliency.no_signal:
        return f"no signal: {saliency.no_signal}"
    if scale.empty:
        return (
            f"nothing to draw: normalisation {scale.name} puts both ends of the scale "
            f"at {scale.limits.low:.3g}"
        )
    if (style.mask or style.box) and statistics.mass(saliency.grid) is None:
        return "no mask and no box: the map has no positive mass"
    if style.box and mass_box(saliency, style.box) is None:
        return "no box: the largest region lies outside the photo"
    return None


def notice_strip(words: str, sheet: Sheet) -> PillowImage.Image:
    """Return the notice as a strip below the photo."""
    face = sheet.face(bold=True)
    return text_strip(
        [Line(each, True) for each in wrap(printable(words), face, sheet.room)], sheet
    )


def banner(picture: PillowImage.Image, words: str, style: Style) -> PillowImage.Image:
    """Return a copy of the picture with the notice along its bottom edge.

    For pictures that must keep the size of the photo: at most half its height, the text as small
    as it must be (down to `TINIEST`); where even that is too long, without the reason.
    """
    asked = font_size(Size(picture.height, picture.width), style.font_size)
    lines, size = _fitted(printable(words), picture.width, picture.height / 2, asked)
    margin, leading = _margin(size), round(LEADING * size)
    shown = picture.copy()
    pen = ImageDraw.Draw(shown)
    top = max(0, picture.height - leading * len(lines) - 2 * margin)
    pen.rectangle((0, top, picture.width, picture.height), fill=SHADE)
    for row, line in enumerate(lines):
        middle = top + margin + (row + 0.5) * leading
        pen.text((margin, middle), line, PAPER, font(size), anchor="lm")
    return shown


def _fitted(words: str, width: float, height: float, asked: int) -> tuple[list[str], int]:
    for attempt in (words, words.partition(":")[0]):
        for size in range(asked, TINIEST - 1, -1):
            room = width - 2 * _margin(size)
            lines = wrap(attempt, font(size), room)
            unbroken = " ".join(lines) == attempt
            if unbroken and len(lines) * round(LEADING * size) + 2 * _margin(size) <= height:
                return lines, size
    return [shorten(attempt, font(TINIEST), width - 2 * _margin(TINIEST))], TINIEST


def _margin(size: int) -> int:
    return max(1, size // 2)
