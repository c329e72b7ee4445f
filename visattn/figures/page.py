"""One map as a vector page: raster photo, vector text and colour bar, embedded fonts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from visattn.atomic import atomic_path
from visattn.images import Image
from visattn.overlay import Scale, Style, draw
from visattn.overlay.caption import explained, file_name, notes, title
from visattn.overlay.colorbar import end_labels, paint_bar
from visattn.overlay.text import printable
from visattn.saliency import SaliencyMap

WIDTH = 4.5
CHARACTERS = 80
BAR = (24, 1350)
TEXT: Any = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "visattn", "font.size": 8}


def save_page(saliency: SaliencyMap, photo: Image, style: Style, path: Path) -> None:
    """Write a map over its photo as PDF or SVG, with caption and colour bar as the style asks.

    The photo keeps its pixels; text and colour bar are vectors with embedded fonts. The same map
    gives the same bytes: no date is written. The picture is 4.5 inches wide.
    """
    bare = replace(style, caption=False, colorbar=False)
    pixels = np.asarray(draw(saliency, photo, bare))
    scale = Scale.of(saliency, style)
    bar = style.colorbar and not saliency.no_signal and not scale.empty
    with rc_context(TEXT):
        figure = Figure(figsize=(WIDTH, WIDTH * pixels.shape[0] / pixels.shape[1]))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(pixels, interpolation="none")
        axes.set_axis_off()
        if bar:
            _colour_bar(figure, scale, style.opacity, end_labels(scale, saliency.grid))
        if style.caption:
            below = (0.62 if scale.diverging else 0.5) if bar else 0.06
            _caption(figure, words_of(saliency, photo, style, scale), below)
        with atomic_path(path) as temporary:
            figure.savefig(
                temporary, bbox_inches="tight", pad_inches=0.03, dpi=300, metadata=undated(path)
            )


def _colour_bar(figure: Figure, scale: Scale, opacity: float, ends: tuple[str, str]) -> None:
    height = figure.get_size_inches()[1]
    axes = figure.add_axes((0.0, -0.2 / height, 1.0, 0.1 / height))
    axes.imshow(paint_bar(scale, opacity, *BAR), aspect="auto", extent=(0.0, 1.0, 0.0, 1.0))
    axes.set_yticks([])
    axes.set_xticks([0.0, 0.5, 1.0], [ends[0], "0" if scale.diverging else "", ends[1]])
    axes.tick_params(length=0, pad=2)
    first, _, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    axes.set_xlabel(f"normalisation: {scale.name}", labelpad=0 if scale.diverging else -8)
    for spine in axes.spines.values():
        spine.set_linewidth(0.4)


def words_of(saliency: SaliencyMap, photo: Image, style: Style, scale: Scale) -> list[str]:
    """Return the lines of a caption."""
    titles = [file_name(saliency, photo), title(saliency), explained(saliency)]
    return [*titles, *notes(saliency, style, scale)]


def _caption(figure: Figure, text: list[str], below: float) -> None:
    height = figure.get_size_inches()[1]
    wrapped = "\n".join(part for line in text for part in wrap(printable(line), CHARACTERS))
    figure.text(0, -below / height, wrapped, va="top", ha="left", parse_math=False)


def undated(path: Path) -> dict[str, Any]:
    """Return the metadata that keeps the date out of a PDF or SVG."""
    return {"CreationDate": None} if path.suffix.lower() == ".pdf" else {"Date": None}
