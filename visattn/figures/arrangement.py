"""Rows of maps: checked, wrapped, and with the difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visattn.errors import ConfigError
from visattn.figures.difference import difference
from visattn.figures.photos import photo_key
from visattn.saliency import SaliencyMap

Rows = Sequence[Sequence[SaliencyMap | None]]


def rectangle(maps: Any) -> list[list[SaliencyMap | None]]:
    """Return maps as rows of equal length, without rows that hold none.

    Raises `ConfigError` for anything else.
    """
    return [row for row in listed(maps) if any(row)]


def listed(maps: Any) -> list[list[SaliencyMap | None]]:
    """Return maps as rows of equal length; raises `ConfigError` for anything else."""
    if isinstance(maps, SaliencyMap):
        maps = [maps]
    flat = all(each is None or isinstance(each, SaliencyMap) for each in maps)
    rows = [list(row) for row in ([maps] if flat else maps)]
    wrong = [each for row in rows for each in row if not isinstance(each, SaliencyMap | None)]
    if wrong:
        raise ConfigError(f"A figure is made of saliency maps, not of {type(wrong[0]).__name__}.")
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or not any(each for row in rows for each in row):
        counts = ", ".join(str(len(row)) for row in rows)
        raise ConfigError(
            f"A figure has rows of equal length, with at least one map; these have {counts or 0} "
            "maps. Fill a row with None."
        )
    return rows


def wrapped(maps: Sequence[SaliencyMap | None], most: int) -> list[list[SaliencyMap | None]]:
    """Return a list of maps as rows of at most ``most``, with the fewest empty places."""
    count = len(maps)
    widths = range(min(2, most, count), min(most, count) + 1)
    width = max(widths, key=lambda each: (-(-count % each) if count > most else each, each))
    padded = [*maps, *[None] * (-count % width)]
    return [list(padded[start : start + width]) for start in range(0, count, width)]


def arranged(maps: Rows, most: int) -> Rows:
    """Return maps in their rows, but a single line of them in lines of at most ``most``.

    One line is a single row, or a single column of maps of one photo, which would be a tower: it is
    laid out in lines however few maps it has. Maps that stand in lines already come back as they
    are.
    """
    flat = [each for row in maps for each in row]
    long_row = len(maps) == 1 and len(flat) > most
    return wrapped(flat, most) if long_row or is_column(maps) else maps


def is_column(maps: Rows) -> bool:
    """Return whether maps of one photo stand below each other, in more than one row."""
    flat = [each for row in maps for each in row]
    photos = {photo_key(each) for each in flat if each}
    return max(map(len, maps)) == 1 and len(maps) > 1 and len(photos) == 1


def with_differences(maps: Rows) -> list[list[SaliencyMap]]:
    """Return rows of two maps with their difference, first minus second, as a third.

    Raises `ConfigError` when a row has not two maps, or maps of different photos.
    """
    pairs = [[each for each in row if each] for row in maps]
    counts = {len(row) for row in pairs} - {2}
    if counts:
        raise ConfigError(
            f"A difference is between two maps, and a row has {max(counts)}: give two methods, "
            "models, weights or targets, or make rows of something else."
        )
    return [[first, second, difference(first, second)] for first, second in pairs]
