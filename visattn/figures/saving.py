"""Figures as files: embedded fonts, rasters at the figure's dpi, the same bytes every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from visattn.atomic import atomic_path
from visattn.errors import ConfigError
from visattn.figures.page import TEXT, undated

SUFFIXES = (".pdf", ".svg", ".png")


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PDF, SVG or PNG, at its own size and dpi, complete or not at all.

    PDF embeds its fonts as TrueType outlines, SVG holds letters as paths; photos and maps are
    rasters at the dpi the figure was made with. No date is written: the same figure gives the same
    bytes. Raises `ConfigError` for another suffix or a place that cannot be written.
    """
    path = Path(path)
    require_suffix(path)
    facts: dict[str, Any] = {} if path.suffix.lower() == ".png" else undated(path)
    with rc_context(TEXT), atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=figure.dpi, metadata=facts)
    return path


def require_suffix(path: Path) -> None:
    """Raise `ConfigError` when a figure cannot be written with the suffix of ``path``."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path.name}: a figure is written as one of {', '.join(SUFFIXES)}.")
