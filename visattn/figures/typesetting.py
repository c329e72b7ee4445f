"""Text that fits: measured in inches, wrapped, and shortened in the middle when it must be."""

from __future__ import annotations

import re

from visattn.overlay.text import font, printable, shorten

LEADING = 1.22
FINE = 100
# On coarse rasters letters are set on whole pixels, and a line comes out a little wider.
SLACK = 1.02
BREAKS = re.compile(r"(?:[^\s_\-./:]|[.:](?=\d))*(?:[\s_\-/]|[.:](?!\d))*")


def leading(size: float) -> float:
    """Return the distance between two lines of text of ``size`` points, in inches."""
    return LEADING * size / 72


def measure(text: str, size: float, bold: bool = False) -> float:
    """Return the width of a line of ``size`` points, in inches."""
    return SLACK * float(font(FINE, bold).getlength(text)) / FINE * size / 72


def parts(text: str) -> list[str]:
    """Return the parts of a text that a line may end after."""
    return [part for part in BREAKS.findall(printable(text).strip()) if part]


def wrap(text: str, size: float, room: float, most: int | None = None) -> list[str]:
    """Return ``text`` in lines no wider than ``room`` inches; at most ``most`` of them.

    Breaks after spaces and the marks _ - . / : that join names. A part that is wider than the room
    alone, and what is left for the last line, is shortened in its middle.
    """
    lines = [""]
    for part in parts(text):
        joined = lines[-1] + part
        if measure(joined.rstrip(), size) <= room or not lines[-1]:
            lines[-1] = joined
        else:
            lines.append(part)
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], "".join(lines[most - 1 :])]
    return [_fitted(line.strip(), size, room) for line in lines]


def _fitted(line: str, size: float, room: float) -> str:
    return shorten(line, font(FINE), room / SLACK * 72 / size * FINE)
