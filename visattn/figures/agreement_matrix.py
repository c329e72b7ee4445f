"""The picture of an agreement matrix: one square per pair, with its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from visattn.errors import ConfigError
from visattn.figures.agreement import Agreement, Matrix
from visattn.figures.bars import below, draw_bar
from visattn.figures.design import Design
from visattn.figures.grid import PAD, Place, Words, stacked
from visattn.figures.panels import write
from visattn.figures.paper import PAPER
from visattn.figures.shared_scale import MINUS, ColourBar
from visattn.figures.typesetting import leading, measure, wrap
from visattn.normalization import Limits
from visattn.overlay import Scale

LARGEST = 0.62
LABEL_SHARE = 0.4
DIVERGING, SEQUENTIAL = "RdBu_r", "viridis"


def agreement_figure(
    agreement: Agreement, *, design: Design | None = None, **options: Any
) -> Figure:
    """Return a figure of an agreement matrix, with the numbers in its squares.

    Correlations stand on a diverging scale from -1 to 1 with zero in the middle, intersection over
    union on one from 0 to 1. A pair that could not be compared is left white and says "n/a".
    Options as for `visattn.figures.figure`.
    """
    if design is not None and options:
        raise ConfigError(f"Give a design or its options ({', '.join(options)}), not both.")
    chosen = design or Design.create(**{"width": "single", **options})
    with rc_context(PAPER):
        return _drawn(agreement, chosen)


def _drawn(agreement: Agreement, design: Design) -> Figure:
    size, width = design.font_size, design.columns.inches
    left = min(LABEL_SHARE * width, max(measure(each, size) for each in agreement.labels) + 2 * PAD)
    side = min(LARGEST, (width - left) / len(agreement.labels))
    left = (width - side * len(agreement.labels) + left) / 2
    columns = _column_labels(agreement.labels, side, size)
    top = max(height for _, height in columns) + 2 * PAD
    board = Place(left, top, side * len(agreement.labels), side * len(agreement.labels))
    bar = _bar(agreement)
    places, words, bottom = below(
        [bar], 0.0, board.top + board.height + 2 * PAD, width, max(4.0, size - 1)
    )
    page = Figure(figsize=(width, bottom + PAD), dpi=design.dpi, facecolor="white")
    _board(page, agreement, bar.scale, board)
    draw_bar(page, bar, places[0], None)
    words += _row_labels(agreement.labels, board, side, size)
    for index, (lines, _) in enumerate(columns):
        words += _stood(lines, board.left + (index + 0.5) * side, top - PAD, size)
    for each in (*words, *_numbers(agreement, board, side, size)):
        write(page, each)
    return page


def _bar(agreement: Agreement) -> ColourBar:
    signed = agreement.measure != "iou"
    low = -1.0 if signed else 0.0
    scale = Scale(Limits(low, 1.0), "none", signed, DIVERGING if signed else SEQUENTIAL)
    return ColourBar(scale, (f"{MINUS}1" if signed else "0", "1"), agreement.words)


def _board(page: Figure, agreement: Agreement, scale: Scale, board: Place) -> None:
    wide, high = page.get_size_inches()
    axes = page.add_axes(
        (board.left / wide, 1 - (board.top + board.height) / high, board.width / wide,
         board.height / high)
    )  # fmt: skip
    count = len(agreement.labels)
    for row in range(count):
        for column in range(count):
            colour = _colour(agreement.values, scale, row, column)
            axes.add_patch(_square(row, column, colour))
    axes.set_xlim(0, count)
    axes.set_ylim(count, 0)
    axes.set_axis_off()


def _square(row: int, column: int, colour: Any) -> Rectangle:
    return Rectangle((column, row), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.8)


def _colour(values: Matrix, scale: Scale, row: int, column: int) -> tuple[float, ...]:
    value = values[row, column]
    if np.isnan(value):
        return (1.0, 1.0, 1.0)
    drawn = scale.values(np.array([value], np.float32))
    return tuple(float(each) / 255 for each in scale.colours(drawn)[0])


def _numbers(agreement: Agreement, board: Place, side: float, size: float) -> list[Words]:
    """Return the number of each square, in the ink that can be read on it."""
    scale = _bar(agreement).scale
    words = []
    for (row, column), value in np.ndenumerate(agreement.values):
        red, green, blue = _colour(agreement.values, scale, row, column)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        text = "n/a" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", MINUS)
        points = min(size, 0.8 * side * 72 / 2.6)
        x, y = board.left + (column + 0.5) * side, board.top + (row + 0.5) * side
        words.append(
            Words(x, y + 0.36 * points / 72, text, points, colour="white" if dark else "black")
        )
    return words


def _row_labels(labels: Sequence[str], board: Place, side: float, size: float) -> list[Words]:
    words: list[Words] = []
    for index, label in enumerate(labels):
        most = max(1, int(side / leading(size)))
        lines = wrap(label, size, board.left - PAD, most)
        top = board.top + (index + 0.5) * side - len(lines) * leading(size) / 2
        words += stacked(lines, board.left - PAD, top, size, "right")
    return words


def _column_labels(
    labels: Sequence[str], side: float, size: float
) -> list[tuple[list[str], float]]:
    """Return the lines of each column label, standing upright, and how high they reach."""
    most = max(1, int(side / leading(size)))
    tallest = 1.2
    wrapped = [wrap(label, size, tallest, most) for label in labels]
    return [(lines, max(measure(line, size) for line in lines)) for lines in wrapped]


def _stood(lines: Sequence[str], middle: float, bottom: float, size: float) -> list[Words]:
    step = leading(size)
    start = middle - len(lines) * step / 2
    return [
        Words(start + (i + 0.78) * step, bottom, line, size, "left", upright=True)
        for i, line in enumerate(lines)
    ]
