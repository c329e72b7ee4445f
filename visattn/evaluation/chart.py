"""The figure of a scorecard: methods down, a panel for each metric, values with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from visattn.errors import ConfigError
from visattn.evaluation.metrics import HIGHER, LOWER
from visattn.evaluation.scorecard import BETTER, WORSE, Row, Scorecard
from visattn.figures.paper import PAPER
from visattn.figures.typesetting import leading, measure, wrap
from visattn.figures.width import Width

LINE, FOOT, GAP, EDGE, LEGEND = 0.15, 0.22, 0.16, 0.06, 0.18  # inches
NARROWEST, WIDEST_NAME = 1.1, 0.4  # inches of a panel; share of the width that names may take
TICK = 0.6  # inches from one number of an axis to the next, at least
SIZE = 6.0
# Okabe & Ito's colours, told apart by shape as well.
INK, CONTROL, GOOD, BAD = "#000000", "#767676", "#0072b2", "#d55e00"
DASHED: dict[str, Any] = {
    "color": CONTROL, "linewidth": 0.6, "linestyle": (0, (3, 2)), "zorder": 0,
}  # fmt: skip
SHAPES = {BETTER: ("o", GOOD), WORSE: ("v", BAD)}
ARROWS = {HIGHER: " \N{RIGHTWARDS ARROW}", LOWER: " \N{LEFTWARDS ARROW}"}


def chart(card: Scorecard, width: str | float = "double", venue: str = "cvpr") -> Figure:
    """Return a figure with one row for each method and one panel for each metric.

    Methods are in the order of the first metric. A dot is the value, a line its 95 % interval; grey
    squares are controls, blue dots better than every control, orange triangles worse than one of
    them; the dashed line is chance, where it is known, in the rows whose it is where maps of
    different cells have different ones; the arrow says where better is. Panels go on below where
    they do not fit side by side. Raises `ConfigError` where nothing was measured.
    """
    labels = [each for each in card.metrics if any(r.interval for r in card.of(each))]
    if not labels:
        raise ConfigError("Nothing was measured, so there is nothing to draw.")
    shown = {row.method for row in card.rows if row.interval is not None}
    methods = [method for method in card.methods if method in shown]
    inches = Width.of(width, venue).inches
    names = min(max(measure(each, SIZE) for each in methods), WIDEST_NAME * inches)
    room = inches - names - 3 * EDGE
    columns = max(1, min(len(labels), int((room + GAP) / (NARROWEST + GAP))))
    columns = math.ceil(len(labels) / math.ceil(len(labels) / columns))
    bands = [labels[start : start + columns] for start in range(0, len(labels), columns)]
    panel = (room - (columns - 1) * GAP) / columns
    titles = [[wrap(_title(card, each), SIZE, panel) for each in band] for band in bands]
    heads = [max(map(len, band)) * leading(SIZE) + 0.1 for band in titles]
    body = LINE * len(methods)
    height = sum(heads) + len(bands) * (body + FOOT) + LEGEND
    with rc_context(PAPER):
        figure = Figure(figsize=(inches, height), dpi=300)
        top = height
        for band, lines, head in zip(bands, titles, heads, strict=True):
            for column, (label, title) in enumerate(zip(band, lines, strict=True)):
                left = 2 * EDGE + names + column * (panel + GAP)
                place = (left / inches, (top - head - body) / height, panel / inches, body / height)
                axes = figure.add_axes(place)
                _panel(axes, card, label, methods, names if column == 0 else 0.0)
                figure.text(left / inches, (top - 0.04) / height, "\n".join(title), va="top",
                            fontsize=SIZE, parse_math=False)  # fmt: skip
            top -= head + body + FOOT
        figure.legend(handles=_kinds(), loc="lower center", ncols=5, fontsize=SIZE - 0.5,
                      frameon=False, borderaxespad=0.1, handletextpad=0.2)  # fmt: skip
    return figure


def _kinds() -> list[Line2D]:
    """Return one sample of each mark, and of the line of chance, with its words."""
    kinds = (
        ("better than every control", *SHAPES[BETTER], GOOD),
        ("worse than a control", *SHAPES[WORSE], BAD),
        ("not separated", "o", INK, "white"),
        ("control", "s", CONTROL, CONTROL),
    )
    marks = [
        Line2D([], [], linestyle="", marker=shape, color=colour, markerfacecolor=face,
               markersize=3.0, markeredgewidth=0.8, label=words)
        for words, shape, colour, face in kinds
    ]  # fmt: skip
    return [*marks, Line2D([], [], label="chance", **DASHED)]


def _title(card: Scorecard, label: str) -> str:
    return f"{label}{ARROWS.get(card.metrics[label].better, '')}"


def _panel(axes: Axes, card: Scorecard, label: str, methods: Sequence[str], names: float) -> None:
    """Draw one metric; ``names`` is the room for the names of methods in inches, 0 for none."""
    rows = {row.method: row for row in card.of(label)}
    _chance(axes, [rows[method] for method in methods])
    for place, method in enumerate(methods):
        if rows[method].interval is not None:
            _dot(axes, place, rows[method])
    words = [wrap(each, SIZE, names, 1)[0] if names else "" for each in methods]
    axes.set_yticks(range(len(methods)), words, fontsize=SIZE, parse_math=False)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    room = axes.bbox.width / axes.figure.dpi  # inches
    ticks = max(3, int(room / TICK))
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(length=2, width=0.4, labelsize=SIZE - 0.5, pad=2)
    axes.tick_params(axis="y", length=0, labelsize=SIZE)
    axes.grid(axis="x", linewidth=0.3, color="#dddddd")
    for place in range(1, len(methods), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#f4f4f4", zorder=-1, linewidth=0)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_linewidth(0.4)
        spine.set_visible(side in ("bottom", "left"))


def _chance(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw one line where all maps have one level, else a stroke in the row of each."""
    known = {place: row.chance for place, row in enumerate(rows) if row.chance is not None}
    measured = sum(row.interval is not None for row in rows)
    if len(known) == measured and len({f"{chance:.6g}" for chance in known.values()}) == 1:
        axes.axvline(next(iter(known.values())), **DASHED)
        return
    for place, chance in known.items():
        axes.plot([chance, chance], [place - 0.5, place + 0.5], **DASHED)


def _dot(axes: Axes, place: int, row: Row) -> None:
    found: Any = row.interval
    shape, colour = ("s", CONTROL) if row.control else SHAPES.get(row.verdict or "", ("o", INK))
    if found.low is not None:
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=0.9)
    hollow = row.verdict not in SHAPES and not row.control
    face = "white" if hollow else colour
    axes.plot(
        [found.value], [place], shape, markersize=3.0, color=colour, markerfacecolor=face,
        markeredgewidth=0.8,
    )  # fmt: skip
