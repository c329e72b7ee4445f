"""Figures as files: embedded fonts, rasters at the figure's dpi, the same bytes every time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from visattn.atomic import atomic_path
from visattn.errors import ConfigError
from visattn.figures.facts import facts
from visattn.figures.page import undated
from visattn.figures.paper import PAPER
from visattn.figures.photos import photo_names
from visattn.saliency import SaliencyMap

NAMED = ("image", "model", "method", "target", "layer", "head", "query")
LONGEST = 120
SUFFIXES = (".pdf", ".svg", ".png")


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PDF, SVG or PNG, at its own size and dpi, complete or not at all.

    PDF embeds its fonts as TrueType outlines, SVG holds letters as paths; photos and maps are
    rasters at the dpi the figure was made with. No date is written: the same figure gives the same
    bytes. Raises `ConfigError` for another suffix or a place that cannot be written.
    """
    path = Path(path)
    require_suffix(path)
    dates: dict[str, Any] = {} if path.suffix.lower() == ".png" else undated(path)
    with rc_context(PAPER), atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=figure.dpi, metadata=dates)
    return path


def save_maps(maps: Sequence[Sequence[SaliencyMap | None]], folder: str | Path) -> list[Path]:
    """Write every map of a figure as .npz, numbered in reading order and named by its facts.

    Each knows its photo by an absolute path, so that it can be drawn from any working directory.
    """
    shown = [each for row in maps for each in row if each is not None]
    digits, photos = len(str(len(shown))), photo_names(shown)
    paths = []
    for index, each in enumerate(shown, 1):
        known = facts(each, photos)
        words = " ".join(known[name] for name in NAMED if name in known)
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", words).strip("-.")[:LONGEST]
        paths.append(each.save(Path(folder) / f"{index:0{digits}}-{slug}.npz"))
    return paths


def require_suffix(path: Path) -> None:
    """Raise `ConfigError` when a figure cannot be written with the suffix of ``path``."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path.name}: a figure is written as one of {', '.join(SUFFIXES)}.")
