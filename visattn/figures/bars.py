"""Colour bars on the page: below the panels, beside each row or below each column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from visattn.figures.grid import GAP, PAD, Grid, Place, Words, fits, stacked
from visattn.figures.shared_scale import ColourBar
from visattn.figures.typesetting import leading, measure, wrap
from visattn.images import Pixels
from visattn.overlay.colorbar import paint_bar

THICK = 0.075
LONGEST = 2.4


def side_room(bars: Sequence[ColourBar], size: float) -> float:
    """Return the width of the bars beside rows, in inches."""
    ends = [end for bar in bars if bar.row is not None for end in bar.ends]
    return GAP + THICK + PAD + max(measure(end, size) for end in ends) if ends else 0.0


def beside(bar: ColourBar, grid: Grid, edge: float, size: float) -> tuple[Place, list[Words]]:
    """Return the place of an upright bar on the right of its row, and its words.

    ``edge`` is where the panels end, in inches.
    """
    row, right = bar.row or 0, edge + GAP
    top, height = grid.tops[row], grid.heights[row]
    size = min(size, size * height / (2 * leading(size)))
    place = Place(right, top, THICK, height)
    x, step = right + THICK + PAD, leading(size)
    words = [
        Words(x, top + 0.78 * step, bar.ends[1], size, "left"),
        Words(x, top + height - 0.22 * step, bar.ends[0], size, "left"),
    ]
    if bar.scale.diverging and height > 4 * step:
        words.append(Words(x, top + height / 2 + 0.28 * step, "0", size, "left"))
    return place, words


def under_column(bar: ColourBar, grid: Grid, size: float) -> tuple[Place, list[Words], float]:
    """Return the place of a bar below its column, its words, and where they end."""
    column = bar.column or 0
    left = grid.left + sum(grid.widths[:column]) + column * GAP
    inset = 0.05 * grid.widths[column]
    place = Place(left + inset, grid.bottom + PAD, grid.widths[column] - 2 * inset, THICK)
    words, bottom = _ends(bar, place, size)
    return place, words, bottom


def below(
    bars: Sequence[ColourBar], left: float, top: float, room: float, size: float
) -> tuple[list[Place], list[Words], float]:
    """Return the places of bars side by side below the panels, their words, and where they end."""
    share = (room - (len(bars) - 1) * 4 * GAP) / len(bars)
    long = min(LONGEST, share)
    places, words, bottoms = [], list[Words](), [top]
    for index, bar in enumerate(bars):
        middle = left + index * (share + 4 * GAP) + share / 2
        place = Place(middle - long / 2, top, long, THICK)
        ends, bottom = _ends(bar, place, size)
        lines = wrap(bar.label, size, share)
        words += [*ends, *stacked(lines, middle, bottom, size)]
        places.append(place)
        bottoms.append(bottom + len(lines) * leading(size))
    return places, words, max(bottoms)


def draw_bar(figure: Figure, bar: ColourBar, place: Place, opacity: float | None) -> None:
    """Paint a bar as the maps are painted, low end left or at the bottom; None is solid colour."""
    wide, high = figure.get_size_inches()
    upright = place.height > place.width
    pixels = [max(2, round(side * figure.dpi)) for side in (place.height, place.width)]
    painted = (
        _solid(bar, max(pixels))
        if opacity is None
        else paint_bar(bar.scale, opacity, min(pixels), max(pixels))
    )
    axes = figure.add_axes(
        (place.left / wide, 1 - (place.top + place.height) / high, place.width / wide,
         place.height / high)
    )  # fmt: skip
    axes.imshow(
        np.rot90(painted) if upright else painted,
        aspect="auto",
        interpolation="none",
        origin="upper",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)


def _solid(bar: ColourBar, pixels: int) -> Pixels:
    values = np.linspace(-1.0 if bar.scale.diverging else 0.0, 1.0, pixels)
    return np.rint(bar.scale.colours(values)[None]).astype(np.uint8)


def _ends(bar: ColourBar, place: Place, size: float) -> tuple[list[Words], float]:
    """Return the words at the ends of a lying bar, in two lines where one is too short."""
    low, high = bar.ends
    longest = max(measure(low, size), measure(high, size))
    size = min(size, size * place.width / longest)
    base, step = place.top + place.height + PAD / 2, leading(size)
    right, middle = place.left + place.width, place.left + place.width / 2
    one_line = fits([low, high], size, place.width)
    second = base if one_line else base + step
    words = stacked([low], place.left, base, size, "left")
    words += stacked([high], right, second, size, "right")
    if bar.scale.diverging and longest + size / 72 < place.width / 2:
        words += stacked(["0"], middle, base, size)
    return words, second + step
