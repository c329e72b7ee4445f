"""The figure of a scorecard: one panel for each metric, values with their intervals."""

from __future__ import annotations

import math
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visattn.errors import ConfigError
from visattn.evaluation.metrics import HIGHER, LOWER
from visattn.evaluation.scorecard import BETTER, WORSE, Row, Scorecard
from visattn.figures.paper import PAPER
from visattn.figures.width import Width

LINE, HEAD, COLUMNS = 0.16, 0.75, 2
# Okabe & Ito's colours, told apart by shape as well.
INK, CONTROL, GOOD, BAD = "#000000", "#8a8a8a", "#0072b2", "#d55e00"
SHAPES = {BETTER: ("o", GOOD), WORSE: ("v", BAD)}


def chart(card: Scorecard, width: str | float = "double", venue: str = "cvpr") -> Figure:
    """Return a figure with one panel for each metric, methods best first.

    A dot is the value, a line its 95 % interval; grey squares are controls, blue dots better than
    every control, orange triangles worse than one of them; the dashed line is chance, where it is
    known. Raises `ConfigError` where nothing was measured.
    """
    labels = [each for each in card.metrics if any(r.interval for r in card.of(each))]
    if not labels:
        raise ConfigError("Nothing was measured, so there is nothing to draw.")
    columns = min(COLUMNS, len(labels))
    rows = math.ceil(len(labels) / columns)
    tallest = max(len([r for r in card.of(each) if r.interval]) for each in labels)
    size = Width.of(width, venue).inches
    with rc_context(PAPER):
        figure = Figure(figsize=(size, rows * (HEAD + LINE * tallest)), dpi=300)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for place, each in zip(axes, labels, strict=False):
            _panel(place, card, each)
        for place in axes[len(labels) :]:
            place.set_axis_off()
        figure.tight_layout(pad=0.4, h_pad=1.0, w_pad=1.0)
    return figure


def _panel(axes: Axes, card: Scorecard, label: str) -> None:
    metric = card.metrics[label]
    rows = [row for row in card.of(label) if row.interval is not None]
    chance = next((row.chance for row in rows if row.chance is not None), None)
    if chance is not None:
        axes.axvline(chance, color=CONTROL, linewidth=0.6, linestyle=(0, (3, 2)), zorder=0)
    for place, row in enumerate(rows):
        _dot(axes, place, row)
    axes.set_yticks(range(len(rows)), [row.method for row in rows], fontsize=6)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    words = {HIGHER: ", higher is better", LOWER: ", lower is better"}.get(metric.better, "")
    axes.set_title(f"{label}{words}", fontsize=7, loc="left")
    axes.tick_params(length=2, width=0.4, labelsize=6, pad=2)
    axes.grid(axis="x", linewidth=0.3, color="#dddddd")
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_linewidth(0.4)
        spine.set_visible(side in ("bottom", "left"))


def _dot(axes: Axes, place: int, row: Row) -> None:
    found: Any = row.interval
    shape, colour = ("s", CONTROL) if row.control else SHAPES.get(row.verdict or "", ("o", INK))
    if found.low is not None:
        axes.plot([found.low, found.high], [place, place], color=colour, linewidth=0.9)
    hollow = row.verdict not in SHAPES and not row.control
    face = "white" if hollow else colour
    axes.plot(
        [found.value], [place], shape, markersize=3.2, color=colour, markerfacecolor=face,
        markeredgewidth=0.8,
    )  # fmt: skip
