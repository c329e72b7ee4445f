"""Measured: what a metric says of one map."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """A value and what a map that knows nothing has.

    Attributes:
        value: of the map.
        chance: of an even map, or of a random order; None where it is not known in closed form.
        parts: what a value over many maps is made of, where that is no mean of their values
            (counts of pixels); empty: the value itself.
    """

    value: float
    chance: float | None = None
    parts: tuple[float, ...] = ()
