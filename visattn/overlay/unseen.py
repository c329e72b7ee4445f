"""The region of a photo that the model did not see, marked as unseen."""

from __future__ import annotations

import numpy as np

from visattn.geometry import Box, Geometry
from visattn.overlay.blend import Coverage, Layer, Selection, dim, grey, ink
from visattn.overlay.stroke import Path, stroke

FADE = 0.45
FADE_TO = 128.0
HATCH = 0.5
SHADE = 0.25


def edges(geometry: Geometry) -> Box:
    """Return the visible box; a side that hides less than one pixel moves to the border."""
    seen, (height, width) = geometry.visible, geometry.original
    return Box(
        seen.top if seen.top >= 1 else 0.0,
        seen.left if seen.left >= 1 else 0.0,
        seen.bottom if seen.bottom <= height - 1 else float(height),
        seen.right if seen.right <= width - 1 else float(width),
    )


def hidden_share(geometry: Geometry) -> float:
    """Return the share of the photo outside `edges`, 0 to 1."""
    top, left, bottom, right = edges(geometry)
    seen = max(0.0, bottom - top) * max(0.0, right - left)
    return 1.0 - seen / (geometry.original.height * geometry.original.width)


def fade(geometry: Geometry, how: str, width: float) -> list[Layer]:
    """Return the layers over the unseen region; `visattn.overlay.Style.unseen` says how."""
    if how not in ("dim", "hatch") or hidden_share(geometry) == 0:
        return []
    hidden = _outside(edges(geometry), geometry)
    if how == "dim":
        return [grey(hidden, FADE, FADE_TO)]
    shade = dim(1 - hidden.astype(np.float32), SHADE)
    return [shade, ink(_hatching(hidden, width), "white", HATCH)]


def outline(geometry: Geometry, how: str, width: float) -> list[Layer]:
    """Return the layers of the line around the visible region."""
    if how == "none":
        return []
    return stroke(_borders(edges(geometry), geometry), geometry.original, width, "white")


def _outside(box: Box, geometry: Geometry) -> Selection:
    rows, cols = (np.arange(side) + 0.5 for side in geometry.original)
    tall = (rows >= box.top) & (rows <= box.bottom)
    wide = (cols >= box.left) & (cols <= box.right)
    return ~(tall[:, None] & wide[None, :])


def _borders(box: Box, geometry: Geometry) -> list[Path]:
    """Return the sides of the box that lie inside the photo."""
    height, width = geometry.original
    top, left, bottom, right = box
    sides = [
        (top > 0, (top, left), (top, right)),
        (bottom < height, (bottom, left), (bottom, right)),
        (left > 0, (top, left), (bottom, left)),
        (right < width, (top, right), (bottom, right)),
    ]
    return [np.array([start, end]) for shown, start, end in sides if shown]


def _hatching(hidden: Selection, width: float) -> Coverage:
    """Return thin diagonal lines, antialiased by their distance, in ``hidden``."""
    gap = 10 * width
    rows, cols = (np.arange(side, dtype=np.float64) for side in hidden.shape)
    distance = np.abs((rows[:, None] + cols[None, :]) % gap - gap / 2) / np.sqrt(2)
    line = np.clip(width / 3 + 0.5 - distance, 0, 1) * hidden
    drawn: Coverage = np.rint(255 * line).astype(np.uint8)
    return drawn
