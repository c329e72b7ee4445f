"""Widths of figures: the columns of common venues, or inches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from visattn.errors import ConfigError, suggestion

POINTS = 72.27
MILLIMETRES = 25.4
NARROWEST, WIDEST = 1.0, 40.0


@dataclass(frozen=True)
class Venue:
    """Column width, text width and text height of a template, in inches."""

    single: float
    double: float
    height: float


# From the templates' \columnwidth, \textwidth and \textheight, or the publishers' guides (mm).
VENUES = {
    "acm": Venue(241.147 / POINTS, 506.295 / POINTS, 9.0),
    "cvpr": Venue(237.13594 / POINTS, 496.85625 / POINTS, 8.875),
    "eccv": Venue(122 / MILLIMETRES, 122 / MILLIMETRES, 193 / MILLIMETRES),
    "elsevier": Venue(90 / MILLIMETRES, 190 / MILLIMETRES, 240 / MILLIMETRES),
    "iclr": Venue(5.5, 5.5, 9.0),
    "icml": Venue(234.8775 / POINTS, 487.8225 / POINTS, 9.0),
    "ieee": Venue(252.0 / POINTS, 516.0 / POINTS, 9.4),
    "nature": Venue(89 / MILLIMETRES, 183 / MILLIMETRES, 247 / MILLIMETRES),
    "neurips": Venue(5.5, 5.5, 9.0),
    "springer": Venue(84 / MILLIMETRES, 174 / MILLIMETRES, 234 / MILLIMETRES),
}


@dataclass(frozen=True)
class Width:
    r"""How wide a figure is, and how LaTeX includes it.

    Attributes:
        inches: width on the page.
        page: height of the page's text in inches, which a figure should not exceed.
        latex: the width for ``\includegraphics``.
        environment: ``figure``, or ``figure*`` across two columns.
    """

    inches: float
    page: float
    latex: str
    environment: str

    @classmethod
    def of(cls, width: Any, venue: str = "cvpr") -> Width:
        """Return a width from ``single``, ``double`` or inches.

        Raises `ConfigError` for an unknown venue or width, or inches outside `NARROWEST` to
        `WIDEST`.
        """
        if venue not in VENUES:
            raise ConfigError(f"There is no venue {venue!r}.{suggestion(venue, VENUES)}")
        known = VENUES[venue]
        if width == "single":
            return cls(known.single, known.height, r"\linewidth", "figure")
        if width == "double":
            across = "figure*" if known.double > known.single else "figure"
            return cls(known.double, known.height, r"\textwidth", across)
        inches = _inches(width)
        environment = "figure*" if inches > known.single * 1.01 < known.double else "figure"
        return cls(inches, known.height, f"{inches:g}in", environment)

    def advice(self, height: float) -> list[str]:
        """Return what to say of a figure of a height in inches: nothing where it fits a page."""
        if height <= self.page:
            return []
        words = f"the figure is {height:.1f} inches high and {self.inches:.1f} wide, and a page "
        words += f"holds {self.page:.1f}: use fewer rows, --wrap, or another --rows"
        return [words]


def _inches(width: Any) -> float:
    try:
        inches = float(width)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"width={width!r}: give 'single', 'double' or a number of inches."
        ) from error
    if not (math.isfinite(inches) and NARROWEST <= inches <= WIDEST):
        raise ConfigError(
            f"width={width!r}: a figure is {NARROWEST:g} to {WIDEST:g} inches wide; "
            "give 'single', 'double' or a number of inches."
        )
    return inches
