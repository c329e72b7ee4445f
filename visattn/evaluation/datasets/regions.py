"""Regions of annotations as masks: polygons, boxes and run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from skimage.draw import polygon2mask

from visattn.evaluation.sample import Mask
from visattn.images import Size

OFFSET, DATA, MORE, SIGN, BITS = 48, 0x1F, 0x20, 0x10, 5


def box_mask(box: Sequence[float], size: Size) -> Mask:
    """Return the pixels (row, col) whose centre lies in a box (left, top, width, height).

    Raises ValueError for what is no box.
    """
    left, top, width, height = (float(each) for each in box)
    if not np.isfinite([left, top, width, height]).all() or width < 0 or height < 0:
        raise ValueError(f"{box!r} is no box (left, top, width, height)")
    rows, cols = np.arange(size.height) + 0.5, np.arange(size.width) + 0.5
    inside = (rows >= top) & (rows < top + height)
    return inside[:, None] & ((cols >= left) & (cols < left + width))[None, :]


def polygon_mask(corners: Sequence[float], size: Size) -> Mask:
    """Return the pixels (row, col) whose centre lies in a polygon (x, y, x, y, ...).

    Coordinates are continuous: pixel i covers the interval from i to i + 1. Raises ValueError for
    fewer than three corners and for numbers that are not finite.
    """
    places = np.asarray(corners, np.float64)
    if places.ndim != 1 or len(places) < 6 or len(places) % 2 or not np.isfinite(places).all():
        raise ValueError(f"{len(places)} numbers are no polygon")
    mask: Mask = polygon2mask(tuple(size), places.reshape(-1, 2)[:, ::-1] - 0.5)
    return mask


def run_length_mask(counts: str | Sequence[int], size: Size) -> Mask:
    """Return the mask (row, col) of COCO run lengths, down the columns, beginning with zeros.

    ``counts`` is a list, or the compressed text of `run_lengths`. Raises ValueError where the runs
    do not add up to the size.
    """
    runs = run_lengths(counts) if isinstance(counts, (str, bytes)) else [int(c) for c in counts]
    if any(run < 0 for run in runs) or sum(runs) != size.height * size.width:
        raise ValueError(f"run lengths of {sum(runs)} pixels for {size.height} x {size.width}")
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask: Mask = values.reshape(tuple(size), order="F")
    return mask


def run_lengths(text: str | bytes) -> list[int]:
    """Return the run lengths in COCO's compressed text.

    Each number is written in groups of 5 bits, lowest first, as characters from code 48 on; bit 6
    says that more groups follow, and the highest bit of the last group is the sign. From the fourth
    number on it is the difference from the number two places before. Raises ValueError for other
    characters and for a text that ends within a number.
    """
    codes = text if isinstance(text, bytes) else text.encode("ascii")
    runs: list[int] = []
    value, shift = 0, 0
    for code in codes:
        group = code - OFFSET
        if not 0 <= group < 2 * MORE:
            raise ValueError(f"{chr(code)!r} is no character of run lengths")
        value |= (group & DATA) << shift
        shift += BITS
        if group & MORE:
            continue
        if group & SIGN:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError("the run lengths end within a number")
    return runs


def segmentation_mask(segmentation: Any, size: Size) -> Mask:
    """Return the mask (row, col) of a COCO segmentation: polygons, or run lengths.

    Raises ValueError for what is neither, and for run lengths of another size.
    """
    if isinstance(segmentation, dict):
        if list(segmentation.get("size", ())) != list(size):
            raise ValueError("run lengths of another size")
        return run_length_mask(segmentation["counts"], size)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("a segmentation without polygons")
    return union([polygon_mask(each, size) for each in segmentation])


def union(masks: Sequence[Mask]) -> Mask:
    """Return the pixels that are in any of several masks."""
    found: Mask = np.logical_or.reduce(masks)
    return found
