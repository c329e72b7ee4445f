"""Queries: whose attention is asked for, when it is not that of the tokens the head reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pixel:
    """A pixel of the original upright photo, x from the left and y from the top."""

    x: float
    y: float


Query = str | tuple[int, int] | Pixel | None


def cells(query: Any, geometries: Sequence[Any]) -> list[tuple[int, int]]:
    """Return the (row, col) that a query means on each image.

    Raises ValueError for pixels that the model did not see and for anything that is no query.
    """
    if isinstance(query, Pixel):
        return [geometry.cell_at(query.x, query.y) for geometry in geometries]
    pair = isinstance(query, Sequence) and not isinstance(query, str) and len(query) == 2
    if pair and all(isinstance(index, int) for index in query):
        return [(query[0], query[1])] * len(geometries)
    raise ValueError(
        f"{query!r} is not a query: use None (what the head reads), 'cls', 'mean', (row, col) or "
        "visattn.Pixel(x, y)"
    )
