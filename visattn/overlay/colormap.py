"""Colormaps by matplotlib name, as tables of RGB colours."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from visattn.errors import ConfigError, suggestion

Colours = npt.NDArray[np.float64]

SEQUENTIAL = "viridis"
DIVERGING = "bwr"


def check_colormap(name: Any) -> None:
    """Raise `ConfigError`, with the nearest right name, when matplotlib has no such colormap."""
    # matplotlib takes longer to import than all the rest; a plain Style needs none of it.
    from matplotlib import colormaps

    if name not in colormaps:
        raise ConfigError(f"There is no colormap {name!r}.{suggestion(str(name), colormaps)}")


@lru_cache(maxsize=16)
def table(name: str) -> Colours:
    """Return the colours of a colormap, float64 (entries, 3), RGB, 0 to 255, low end first."""
    from matplotlib import colormaps

    check_colormap(name)
    colormap = colormaps[name]
    colours: Colours = colormap(np.arange(colormap.N))[:, :3].astype(np.float64) * 255.0
    colours.flags.writeable = False
    return colours


def colour(name: str, positions: npt.NDArray[Any]) -> Colours:
    """Return the colour at each position (0 to 1) of a colormap, shape positions + (3,).

    Entry ``round(position * (entries - 1))``: linear in the position, exact at both ends.
    """
    colours = table(name)
    picked: Colours = colours[np.rint(positions * (len(colours) - 1)).astype(np.intp)]
    return picked
