"""Where a map is: the affine chain from token grid to model input to the upright photo.

Coordinates are continuous and in (row, col) order: pixel or cell i covers the interval [i, i + 1],
so its centre is i + 0.5. Nothing here knows about shifted half pixels, because areas have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from visattn.images import Size

Array = npt.NDArray[np.float32]
INTERPOLATIONS = ("bilinear", "nearest")


@dataclass(frozen=True)
class Affine:
    """The axis-aligned map ``y = scale * x + offset`` on (row, col) coordinates."""

    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    def __call__(self, row: float, col: float) -> tuple[float, float]:
        """Return the image of the point (row, col)."""
        return self.scale[0] * row + self.offset[0], self.scale[1] * col + self.offset[1]

    def then(self, outer: Affine) -> Affine:
        """Return the map that applies this one first and ``outer`` second."""
        scale = (self.scale[0] * outer.scale[0], self.scale[1] * outer.scale[1])
        return Affine(scale, outer(*self.offset))

    def inverse(self) -> Affine:
        """Return the map that undoes this one."""
        scale = (1.0 / self.scale[0], 1.0 / self.scale[1])
        return Affine(scale, (-self.offset[0] * scale[0], -self.offset[1] * scale[1]))


class Box(NamedTuple):
    """A rectangle in continuous coordinates, edges included."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True)
class Geometry:
    """The chain grid -> model input -> original photo, and its inverse.

    Attributes:
        grid: rows and columns of the map (as height and width).
        input: size of the model's input in pixels.
        original: size of the upright photo in pixels.
        grid_to_input: cell coordinates to input pixels.
        input_to_original: input pixels to photo pixels (undoes resize, crop and pad).
    """

    grid: Size
    input: Size
    original: Size
    grid_to_input: Affine
    input_to_original: Affine

    @classmethod
    def plain(cls, size: Size) -> Geometry:
        """Return the geometry of a map with one cell per pixel of an untransformed image."""
        return cls(size, size, size, Affine(), Affine())

    def with_grid(self, grid: Size, cell: tuple[float, float] | None = None) -> Geometry:
        """Return the same chain for another grid; ``cell`` is its size in input pixels.

        By default the grid covers the whole input evenly.
        """
        scale = cell or (self.input.height / grid.height, self.input.width / grid.width)
        return replace(self, grid=grid, grid_to_input=Affine(scale))

    @property
    def grid_to_original(self) -> Affine:
        """Cell coordinates to photo pixels."""
        return self.grid_to_input.then(self.input_to_original)

    @property
    def visible(self) -> Box:
        """The part of the photo that both the model saw and the grid covers, in photo pixels."""
        seen = self._box(self.input_to_original, self.input)
        covered = self._box(self.grid_to_original, self.grid)
        return Box(
            max(0.0, seen.top, covered.top),
            max(0.0, seen.left, covered.left),
            min(float(self.original.height), seen.bottom, covered.bottom),
            min(float(self.original.width), seen.right, covered.right),
        )

    @property
    def visible_fraction(self) -> float:
        """Share of the photo's area inside `visible`, 0 to 1."""
        top, left, bottom, right = self.visible
        return max(0.0, bottom - top) * max(0.0, right - left) / float(np.prod(self.original))

    def cell_box(self, row: int, col: int) -> Box:
        """Return the rectangle of one cell in photo pixels."""
        chain = self.grid_to_original
        return Box(*chain(row, col), *chain(row + 1, col + 1))

    def cell_at(self, x: float, y: float) -> tuple[int, int]:
        """Return (row, col) of the cell under photo pixel (x, y).

        Raises ValueError when the model did not see that pixel.
        """
        row, col = self.grid_to_original.inverse()(y, x)
        box = self.visible
        if not (box.top <= y < box.bottom and box.left <= x < box.right):
            raise ValueError(
                f"the model did not see pixel (x={x:g}, y={y:g}): it saw x {box.left:.1f} to "
                f"{box.right:.1f}, y {box.top:.1f} to {box.bottom:.1f} of a photo of "
                f"{self.original.width} x {self.original.height}"
            )
        return min(int(row), self.grid.height - 1), min(int(col), self.grid.width - 1)

    def on_input(self, grid: Array, interpolation: str = "bilinear") -> Array:
        """Spread cell values (rows, cols) over the model's input (H, W); NaN outside the grid."""
        return _spread(grid, self.input, self.grid_to_input, interpolation)

    def on_original(self, grid: Array, interpolation: str = "bilinear") -> Array:
        """Spread cell values (rows, cols) over the photo (H, W); NaN where the model saw nothing.

        A pixel counts as seen when its centre lies in the visible region.
        """
        values = _spread(grid, self.original, self.grid_to_original, interpolation)
        top, left, bottom, right = self.visible
        rows, cols = np.arange(values.shape[0]) + 0.5, np.arange(values.shape[1]) + 0.5
        values[(rows < top) | (rows > bottom), :] = np.nan
        values[:, (cols < left) | (cols > right)] = np.nan
        return values

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, for JSON."""
        return {
            "grid": list(self.grid),
            "input": list(self.input),
            "original": list(self.original),
            "grid_to_input": [*self.grid_to_input.scale, *self.grid_to_input.offset],
            "input_to_original": [*self.input_to_original.scale, *self.input_to_original.offset],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Geometry:
        """Rebuild a geometry from `as_dict`."""
        grid, size, original = (
            Size(*map(int, stored[name])) for name in ("grid", "input", "original")
        )
        to_input, to_original = (
            Affine((float(a), float(b)), (float(c), float(d)))
            for a, b, c, d in (stored["grid_to_input"], stored["input_to_original"])
        )
        return cls(grid, size, original, to_input, to_original)

    @staticmethod
    def _box(chain: Affine, size: Size) -> Box:
        return Box(*chain(0, 0), *chain(size.height, size.width))


def _spread(grid: Array, size: Size, chain: Affine, interpolation: str) -> Array:
    back = chain.inverse()
    rows = _weights(size.height, grid.shape[0], back.scale[0], back.offset[0], interpolation)
    cols = _weights(size.width, grid.shape[1], back.scale[1], back.offset[1], interpolation)
    spread: Array = (rows @ np.asarray(grid, np.float32)) @ cols.T
    return spread


def _weights(pixels: int, cells: int, scale: float, offset: float, interpolation: str) -> Array:
    """Return the (pixels, cells) matrix that samples one axis; NaN rows lie outside the cells.

    Exact in float32, where cv2.remap and cv2.warpAffine round positions to 1/32 of a cell, which
    shows as steps when a cell covers many pixels. Pixels larger than a cell average the cells
    under them.
    """
    centre = scale * (np.arange(pixels) + 0.5) + offset
    weights = np.zeros((pixels, cells), np.float32)
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation {interpolation!r} is not one of {INTERPOLATIONS}")
    if scale > 1.0:
        edges = np.arange(cells)[None, :]
        low, high = centre[:, None] - scale / 2, centre[:, None] + scale / 2
        overlap = np.clip(np.minimum(edges + 1, high) - np.maximum(edges, low), 0, None)
        weights[:] = overlap / np.maximum(overlap.sum(1, keepdims=True), 1e-12)
    elif interpolation == "nearest":
        nearest = np.clip(np.floor(centre), 0, cells - 1).astype(int)
        weights[np.arange(pixels), nearest] = 1.0
    else:
        position = np.clip(centre - 0.5, 0, cells - 1)
        low_cell = np.floor(position).astype(int)
        high_cell = np.minimum(low_cell + 1, cells - 1)
        fraction = (position - low_cell).astype(np.float32)
        np.add.at(weights, (np.arange(pixels), low_cell), 1 - fraction)
        np.add.at(weights, (np.arange(pixels), high_cell), fraction)
    weights[(centre < 0) | (centre > cells)] = np.nan
    return weights
