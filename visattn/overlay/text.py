"""Text that is never cut: measured, wrapped, and shortened in the middle."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from visattn.images import Size

SMALLEST = 11
ELLIPSIS = "…"
Font = ImageFont.FreeTypeFont


def font_size(size: Size, asked: int | None) -> int:
    """Return the text height in pixels: the asked one, or by the photo, at least `SMALLEST`."""
    return asked or max(SMALLEST, round(min(size.width / 44, size.height / 22)))


@lru_cache(maxsize=64)
def font(size: int, bold: bool = False) -> Font:
    """Return DejaVu Sans, which comes with matplotlib, at a pixel size."""
    return ImageFont.truetype(str(_file(bold)), size)


def printable(text: str) -> str:
    """Return ``text`` with characters that the font lacks written as Python escapes."""
    known = _characters()
    return "".join(
        each if ord(each) in known else each.encode("unicode_escape").decode() for each in text
    )


def shorten(text: str, face: Font, width: float) -> str:
    """Return ``text`` if it is no wider than ``width`` pixels, else with its middle left out."""
    if face.getlength(text) <= width:
        return text
    low, high = 0, len(text) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if face.getlength(_without_middle(text, middle)) <= width:
            low = middle
        else:
            high = middle - 1
    return _without_middle(text, low)


def wrap(text: str, face: Font, width: float) -> list[str]:
    """Return ``text`` in lines no wider than ``width`` pixels; a longer word is shortened."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) <= width:
            lines[-1] = longer
        elif lines[-1]:
            lines.append(shorten(word, face, width))
        else:
            lines[-1] = shorten(word, face, width)
    return lines


def _without_middle(text: str, keep: int) -> str:
    tail = keep // 2
    return text[: keep - tail] + ELLIPSIS + (text[-tail:] if tail else "")


def _file(bold: bool) -> Path:
    import matplotlib as mpl

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return Path(mpl.get_data_path(), "fonts", "ttf", name)


@lru_cache(maxsize=1)
def _characters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_file(bold=False))).get_charmap())
