"""Scale: what a raw value becomes when it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from visattn.errors import ConfigError
from visattn.geometry import Array
from visattn.normalization import SYMMETRIC, Limits, limits
from visattn.overlay.colormap import DIVERGING, SEQUENTIAL, Colours, colour
from visattn.overlay.style import Style
from visattn.saliency import SaliencyMap

FIXED = "fixed limits"


@dataclass(frozen=True)
class Scale:
    """Raw values to drawn values and colours.

    Attributes:
        limits: raw values at the two ends, taken from the cells of the grid.
        name: the normalisation, or `FIXED` for limits given by hand.
        diverging: whether zero lies in the middle; drawn values then run from -1 to 1, else 0 to 1.
        colormap: matplotlib name.
    """

    limits: Limits
    name: str
    diverging: bool
    colormap: str

    @classmethod
    def of(cls, saliency: SaliencyMap, style: Style) -> Scale:
        """Return the scale on which ``style`` draws a map.

        Raises `ConfigError` for a signed map with limits that put zero off the middle.
        """
        if style.limits is None:
            name = style.normalization or saliency.default_normalization
            # Cells without signal may be NaN or infinite, which no normalisation can order.
            cells = np.zeros_like(saliency.grid) if saliency.no_signal else saliency.grid
            ends, diverging = limits(cells, name), name in SYMMETRIC
        else:
            name, ends = FIXED, Limits(*style.limits)
            diverging = ends.low == -ends.high
            if saliency.signed and ends.low < 0 and not diverging:
                reach = max(-ends.low, abs(ends.high))
                raise ConfigError(
                    f"limits={style.limits!r} put zero off the middle of a signed map; "
                    f"use ({-reach:g}, {reach:g}), or low = 0 for positive evidence alone."
                )
        return cls(
            ends, name, diverging, style.colormap or (DIVERGING if diverging else SEQUENTIAL)
        )

    @property
    def empty(self) -> bool:
        """Whether both ends are the same value, so that nothing can be drawn."""
        return self.limits.high <= self.limits.low

    def values(self, raw: Array) -> Array:
        """Return drawn values: 0 to 1, diverging -1 to 1; zero is not painted; NaN stays NaN."""
        scaled = self.limits.scale(raw)
        return scaled * np.float32(2) - np.float32(1) if self.diverging else scaled

    def colours(self, values: npt.NDArray[Any]) -> Colours:
        """Return the colours of drawn values without NaN, float64 (..., 3), 0 to 255."""
        return colour(self.colormap, (values + 1) / 2 if self.diverging else values)


def shared_limits(maps: Sequence[SaliencyMap], normalization: str | None = None) -> Limits:
    """Return one pair of limits that covers several maps, for ``Style(limits=...)``.

    The lowest low and the highest high of the maps that carry a signal. Raises `ConfigError` when
    the maps' default normalisations differ and none is named, or when no map carries a signal.
    """
    names = {normalization or each.default_normalization for each in maps}
    if len(names) > 1:
        raise ConfigError(f"Maps of different kinds ({', '.join(sorted(names))}): name one scale.")
    found = [limits(each.grid, *names) for each in maps if not each.no_signal]
    if not found:
        raise ConfigError(f"None of the {len(maps)} maps carries a signal: there is no scale.")
    return Limits(min(each.low for each in found), max(each.high for each in found))
