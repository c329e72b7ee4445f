"""Antialiased lines as coverage, with a dark casing that keeps them legible on any photo."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from visattn.images import Size
from visattn.overlay.blend import BAND, Coverage, Layer, ink

Path = npt.NDArray[np.float64]
FINE = 5
CASING = 0.55


def line_width(size: Size, asked: float | None) -> float:
    """Return a line width in pixels: the asked one, or 1/300 of the shorter side, at least 1."""
    return asked or max(1.0, min(size) / 300)


def coverage(paths: Sequence[Path], size: Size, width: float) -> Coverage:
    """Return how much of each pixel the lines cover, uint8 (height, width), 0 to 255.

    Paths are (points, 2) in continuous (row, col) photo coordinates. Drawn `FINE` times finer and
    averaged, since cv2's own antialiased lines come in widths of 1.4, 3.5, 5.5, ... pixels only.
    """
    drawn = np.empty(size, np.uint8)
    # cv2 counts from pixel centres, wants (x, y), and draws an even thickness one pixel wider.
    points = [np.rint(path[:, ::-1] * FINE - 0.5).astype(np.int32) for path in paths]
    thickness = max(1, 2 * round((width * FINE - 1) / 2))
    for start in range(0, size.height, BAND):
        rows = min(BAND, size.height - start)
        fine = np.zeros((rows * FINE, size.width * FINE), np.uint8)
        lines = [each - np.array((0, start * FINE), np.int32) for each in points]
        cv2.polylines(fine, lines, False, 255, thickness)
        drawn[start : start + rows] = cv2.resize(
            fine, (size.width, rows), None, 0, 0, cv2.INTER_AREA
        )
    return drawn


def stroke(paths: Sequence[Path], size: Size, width: float, colour: str) -> list[Layer]:
    """Return the layers of the lines: casing below, colour above."""
    if not paths:
        return []
    casing = "white" if colour == "black" else "black"
    outer = coverage(paths, size, width + max(2.0, width))
    return [ink(outer, casing, CASING), ink(coverage(paths, size, width), colour)]
