"""Rows of maps: checked, wrapped, and with the difference of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visattn.errors import ConfigError
from visattn.figures.difference import difference
from visattn.saliency import SaliencyMap


def rectangle(maps: Any) -> list[list[SaliencyMap | None]]:
    """Return maps as rows of equal length; raises `ConfigError` for anything else."""
    if isinstance(maps, SaliencyMap):
        maps = [maps]
    flat = all(each is None or isinstance(each, SaliencyMap) for each in maps)
    listed = [list(row) for row in ([maps] if flat else maps)]
    wrong = [each for row in listed for each in row if not isinstance(each, SaliencyMap | None)]
    if wrong:
        raise ConfigError(f"A figure is made of saliency maps, not of {type(wrong[0]).__name__}.")
    lengths = {len(row) for row in listed}
    if len(lengths) != 1 or not any(each for row in listed for each in row):
        counts = ", ".join(str(len(row)) for row in listed)
        raise ConfigError(
            f"A figure has rows of equal length, with at least one map; these have {counts or 0} "
            "maps. Fill a row with None."
        )
    return [row for row in listed if any(row)]


def wrapped(maps: Sequence[SaliencyMap], most: int) -> list[list[SaliencyMap | None]]:
    """Return a list of maps as rows of at most ``most``, with the fewest empty places."""
    count = len(maps)
    widths = range(min(2, count), min(most, count) + 1)
    width = max(widths, key=lambda each: (-(-count % each) if count > most else each, each))
    padded = [*maps, *[None] * (-count % width)]
    return [list(padded[start : start + width]) for start in range(0, count, width)]


def arranged(
    maps: Sequence[Sequence[SaliencyMap]], most: int
) -> Sequence[Sequence[SaliencyMap | None]]:
    """Return maps in their rows, but wrapped when they are more than ``most`` of one line.

    One line is a single row, or a single column of maps of one photo.
    """
    flat = [each for row in maps for each in row]
    photos = {each.provenance.get("image", {}).get("sha256") for each in flat}
    column = max(map(len, maps)) == 1 and len(photos) == 1
    return wrapped(flat, most) if (len(maps) == 1 or column) and len(flat) > most else maps


def with_differences(maps: Sequence[Sequence[SaliencyMap]]) -> list[list[SaliencyMap]]:
    """Return rows of two maps with their difference, first minus second, as a third.

    Raises `ConfigError` when a row has not two maps, or maps of different photos.
    """
    counts = {len(row) for row in maps} - {2}
    if counts:
        raise ConfigError(
            f"A difference is between two maps, and a row has {max(counts)}: give two methods, "
            "models, weights or targets, or make rows of something else."
        )
    return [[first, second, difference(first, second)] for first, second in maps]
