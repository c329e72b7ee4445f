"""Units: the parts of a model's input that are removed or kept as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from visattn.adapters import Refusal, chain_of
from visattn.errors import ConfigError, UnsupportedMethodError
from visattn.geometry import Affine, Geometry
from visattn.images import Size
from visattn.models import Model
from visattn.saliency import SaliencyMap

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
PARTS = 14  # units along the shorter side of a model without patches


@dataclass(frozen=True)
class Units:
    """A partition of the input into rectangles, counted row by row.

    Attributes:
        rows: edges in input pixels from top to bottom, both borders included.
        cols: edges from left to right.
    """

    rows: tuple[int, ...]
    cols: tuple[int, ...]

    @classmethod
    def squares(cls, size: Size, side: int) -> Units:
        """Return squares of ``side`` pixels; the last ones are cut at the border of the input.

        Raises `ConfigError` for squares larger than the input.
        """
        if not 1 <= side <= min(size):
            raise ConfigError(
                f"Units of {side} pixels do not fit an input of {size.height} x {size.width}."
            )
        rows, cols = ((*range(0, extent, side), extent) for extent in size)
        return cls(rows, cols)

    @classmethod
    def of(cls, model: Model, size: Size, side: int | None = None) -> Units:
        """Return squares of ``side``, or by default what a model sees as a whole.

        For transformers their patches, those of the finest grid; for models without tokens squares
        of about 1/14 of the shorter side that divide the input, where there are such: of these
        preferably such that cells of the model's maps are made of them, or they of cells.
        """
        if side is not None:
            return cls.squares(size, side)
        chain = chain_of(model.adapter, size)
        if not isinstance(chain, Refusal):
            patches = cls._on(size, chain.layout.grid, Affine(chain.layout.cell))
            if patches is not None:
                return patches
        return cls.squares(size, _side(size, _cell(model, size)))

    @classmethod
    def cells(cls, geometry: Geometry) -> Units | None:
        """Return the cells of a map, None where they are no whole pixels or do not fill the input.

        A rest of the input that is smaller than a cell, which the model did not see, belongs to the
        last one.
        """
        return cls._on(geometry.input, geometry.grid, geometry.grid_to_input)

    @classmethod
    def _on(cls, size: Size, grid: Size, chain: Affine) -> Units | None:
        axes = zip(size, grid, chain.scale, chain.offset, strict=True)
        edges = [_edges(*axis) for axis in axes]
        return None if edges[0] is None or edges[1] is None else cls(edges[0], edges[1])

    @property
    def shape(self) -> Size:
        """Rows and columns of units."""
        return Size(len(self.rows) - 1, len(self.cols) - 1)

    @property
    def count(self) -> int:
        """Number of units."""
        return self.shape.height * self.shape.width

    @cached_property
    def areas(self) -> Values:
        """Pixels of each unit (unit,)."""
        return np.outer(np.diff(self.rows), np.diff(self.cols)).ravel().astype(np.float64)

    def spread(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return values (unit,) on the input (row, col)."""
        tall = np.repeat(values.reshape(self.shape), np.diff(self.rows), axis=0)
        return np.repeat(tall, np.diff(self.cols), axis=1)

    def means(self, values: npt.NDArray[np.generic]) -> Values:
        """Return the mean (unit,) of values (row, col) on the input over each unit."""
        wide = np.add.reduceat(values.astype(np.float64), self.rows[:-1], axis=0)
        sums = np.add.reduceat(wide, self.cols[:-1], axis=1)
        return np.asarray(sums.ravel() / self.areas)

    def relevance(self, found: SaliencyMap) -> Values:
        """Return the mean of a map over each unit (unit,), NaN for units that it does not cover.

        Units that are made of whole cells of the map get the mean of these cells' own values: a
        bilinear map would mix in the neighbours and change ranks. Other units get the mean of the
        map as it is on the input, bilinear.
        """
        cells = Units.cells(found.geometry)
        if cells is not None and self._made_of(cells):
            return self.means(cells.spread(found.grid.ravel()))
        values = found.on_input()
        known = np.isfinite(values)
        shares = self.means(known)
        sums = self.means(np.where(known, values, 0))
        seen = np.where(shares > 0, shares, np.nan)
        return np.asarray(sums / seen)

    def inside(self, coarse: Units) -> npt.NDArray[np.int64]:
        """Return in which of other units each one's first pixel lies (unit,)."""
        row, col = (
            np.searchsorted(edges[1:-1], own[:-1], side="right")
            for edges, own in ((coarse.rows, self.rows), (coarse.cols, self.cols))
        )
        return np.asarray((row[:, None] * coarse.shape.width + col).ravel())

    def _made_of(self, cells: Units) -> bool:
        return set(self.rows) <= set(cells.rows) and set(self.cols) <= set(cells.cols)


def ranks(
    relevance: Values, units: Units, patches: Units, random: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return the place (unit,) of each unit in the order of relevance (unit,), the highest at 0.

    Ties are broken at random, patch by patch: tied units of one patch follow each other. (Bluecher
    et al., TMLR 2024, add noise below half the smallest gap, which is the same for whole patches.)
    """
    patch = units.inside(patches)
    among = random.random(patches.count)[patch]
    order = np.lexsort((random.random(units.count), among, -relevance))
    places = np.empty(units.count, np.int64)
    places[order] = np.arange(units.count)
    return places


def _edges(extent: int, count: int, scale: float, offset: float) -> tuple[int, ...] | None:
    """Return the edges of cells on one axis in whole pixels; None where that is not possible."""
    exact = offset + scale * np.arange(count + 1)
    inner = np.rint(exact[1:-1])
    last = exact[-1]
    whole = np.allclose(exact[1:-1], inner, atol=1e-3)
    fills = abs(offset) < 1e-3 and -scale < extent - last < scale
    edges = (0, *map(int, inner), extent)
    return edges if whole and fills and all(np.diff(edges) > 0) else None


def _cell(model: Model, size: Size) -> float | None:
    """Return the side of a cell of a model's maps in pixels, None where it has no grid."""
    try:
        rows, cols = model.adapter.grid(size)[1]
    except UnsupportedMethodError:
        return None
    return rows if rows == cols else None


def _side(size: Size, cell: float | None) -> int:
    """Return the side of squares for a model without patches."""
    wanted = max(1.0, min(size) / PARTS)
    common = math.gcd(*size)
    near = [d for d in range(1, common + 1) if common % d == 0 and 0.5 <= d / wanted <= 2]
    fitting = [d for d in near if cell is not None and (cell % d == 0 or d % cell == 0)]
    best = min(fitting or near, key=lambda side: abs(math.log(side / wanted)), default=None)
    return best or round(wanted)
