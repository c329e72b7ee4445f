"""A sheet about a channel gate: a chart of all gates, and the strongest channels over the photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from visattn.atomic import atomic_path
from visattn.channels import ChannelRanking
from visattn.errors import ConfigError
from visattn.figures.page import TEXT, undated, words_of
from visattn.images import Image
from visattn.overlay import Scale, Style, draw
from visattn.overlay.text import printable
from visattn.saliency import SaliencyMap

WIDTH = 7.0
CHART = 1.5
PER_ROW = 4
GAP, LINE = 0.08, 0.14
HEAD = 2.6 * LINE
CHARACTERS = 125
PALE, STRONG = "#b8c4d0", "#c0392b"
BRANCHES = ("#34608f", "#d9a441", "#5b8c5a", "#8e6c8a")


def save_channels(saliency: SaliencyMap, photo: Image, style: Style, path: Path) -> None:
    """Write the sheet as PNG, PDF or SVG, 7 inches wide.

    The chart shows every channel's gate, from the most open to the most closed, with the channels
    that pass the most energy marked; of a branch gate each channel's weights, side by side. Below,
    the gated activation of the marked channels over the photo, the strongest first, all on one
    scale. Raises `ConfigError` for a map without a channel ranking.
    """
    ranking = saliency.channels
    if ranking is None:
        raise ConfigError(
            f"A map of {saliency.method} has no ranking of channels; channel_gate makes one."
        )
    with rc_context(TEXT):
        figure = sheet(saliency, ranking, photo, style)
        with atomic_path(path) as temporary:
            figure.savefig(
                temporary, bbox_inches="tight", pad_inches=0.05, dpi=200, metadata=_facts(path)
            )


def sheet(saliency: SaliencyMap, ranking: ChannelRanking, photo: Image, style: Style) -> Figure:
    """Return the figure: the chart, then rows of pictures, then the caption."""
    style = _on_one_scale(style, ranking)
    side = (WIDTH - GAP * (PER_ROW - 1)) / PER_ROW
    picture = side * photo.size.height / photo.size.width
    rows = -(-len(ranking.order) // PER_ROW)
    height = CHART + HEAD + rows * (picture + HEAD)
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.07, 1 - CHART / height, 0.93, (CHART - 2 * LINE) / height))
    chart(axes, ranking)
    shown = zip(_pictures(saliency, ranking, photo, style), _titles(ranking), strict=True)
    for index, (pixels, title) in enumerate(shown):
        row, col = divmod(index, PER_ROW)
        bottom = (rows - row - 1) * (picture + HEAD)
        place = (col * (side + GAP) / WIDTH, bottom / height, side / WIDTH, picture / height)
        cell = figure.add_axes(place)
        cell.imshow(pixels, interpolation="none")
        cell.set_axis_off()
        cell.set_title(title, fontsize=7, pad=2)
    if style.caption:
        bare = replace(style, colorbar=False)
        _caption(figure, words_of(saliency, photo, bare, Scale.of(saliency, bare)))
    return figure


def chart(axes: Axes, ranking: ChannelRanking) -> None:
    """Draw one bar per channel, the gates sorted; of branches one stacked bar per channel."""
    gates = np.atleast_2d(ranking.gates)
    placed = np.argsort(-gates[0], kind="stable")
    where = np.arange(placed.size)
    if ranking.kind == "branch":
        below = np.zeros(placed.size)
        for index, branch in enumerate(gates):
            colour = BRANCHES[index % len(BRANCHES)]
            axes.bar(where, branch[placed], 1.0, below, color=colour, label=f"branch {index + 1}")
            below = below + branch[placed]
        axes.legend(loc="upper right", fontsize=6, ncols=len(gates))
        what = "weights of the branches"
    else:
        axes.bar(where, gates[0][placed], 1.0, color=PALE)
        marked = np.isin(placed, ranking.order)
        drawn = max(1.0, placed.size / 250)
        axes.bar(where[marked], gates[0][placed][marked], drawn, color=STRONG)
        what = "gate"
    axes.set_xlim(-0.5, placed.size - 0.5)
    axes.set_ylabel(what)
    axes.set_xlabel(f"{placed.size} channels, sorted by {_sorted_by(ranking)}", labelpad=1)
    axes.set_xticks([])
    axes.set_title(_summary(ranking), fontsize=8, loc="left", pad=3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _sorted_by(ranking: ChannelRanking) -> str:
    return "the first branch" if ranking.kind == "branch" else "gate; marked: those drawn below"


def _summary(ranking: ChannelRanking) -> str:
    gates = ranking.gates
    facts = f"{ranking.layer}: mean {gates.mean():.2f}, {gates.min():.2f} to {gates.max():.2f}"
    if ranking.offset:
        facts += f"; multiplies with {ranking.offset:g} + gate"
    if ranking.kind == "branch":
        shares = ", ".join(f"{share:.0%}" for share in gates.mean(axis=1))
        return f"{facts}; mean share of the branches {shares}"
    return facts


def _on_one_scale(style: Style, ranking: ChannelRanking) -> Style:
    """Return the style with the limits of all channels together, unless it has its own."""
    extreme = float(np.abs(ranking.maps).max())
    return replace(style, limits=(-extreme, extreme)) if extreme and not style.limits else style


def _pictures(
    saliency: SaliencyMap, ranking: ChannelRanking, photo: Image, style: Style
) -> list[Any]:
    """Return the strongest channels' maps over the photo."""
    bare = replace(style, caption=False, colorbar=False)
    return [
        np.asarray(draw(replace(saliency, grid=grid, channels=None, silence=None), photo, bare))
        for grid in ranking.maps
    ]


def _titles(ranking: ChannelRanking) -> list[str]:
    shares = ranking.share
    titles = []
    for channel, share in zip(ranking.order.tolist(), shares.tolist(), strict=True):
        gates = np.atleast_1d(ranking.gates[..., channel])
        shown = " / ".join(f"{gate:.2f}" for gate in gates.tolist())
        titles.append(f"channel {channel}, gate {shown}\n{share:.1%} of the energy")
    return titles


def _caption(figure: Figure, text: list[str]) -> None:
    height = figure.get_size_inches()[1]
    wrapped = "\n".join(part for line in text for part in wrap(printable(line), CHARACTERS))
    figure.text(0, -0.08 / height, wrapped, va="top", ha="left", parse_math=False)


def _facts(path: Path) -> dict[str, Any] | None:
    return None if path.suffix.lower() == ".png" else undated(path)
