"""Control: edges of the photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from skimage.color import rgb2gray
from skimage.filters import sobel

from visattn.geometry import Geometry
from visattn.images import Image
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord

Array = npt.NDArray[np.float32]


@METHODS.register("edges")
@dataclass(frozen=True)
class Edges(Method):
    """Edge strength of the photograph itself, the control that needs no model.

    Sobel magnitude ``sqrt((gx^2 + gy^2) / 2)`` of the luminance (Rec. 709 weights, 0..1), averaged
    over each cell. The photograph is brought to the resolution of the model's input first, by
    averages over areas, so that edges are those that the model could see; nothing outside the
    photograph makes an edge. Values in 0..1. Class-agnostic. A map that agrees with this one may be
    an edge detector (Adebayo et al., NeurIPS 2018).
    """

    formula: ClassVar[str] = "Sobel magnitude of the luminance"

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the mean magnitude of each cell."""
        grid, cell = record.adapter.grid(record.size)
        pairs = zip(record.images, geometries, strict=True)
        found = [strength(image, geometry.with_grid(grid, cell)) for image, geometry in pairs]
        return Maps(torch.from_numpy(np.stack(found)), cell)


def strength(image: Image, geometry: Geometry) -> Array:
    """Return the mean Sobel magnitude in each cell (row, col); 0 where there is no photograph."""
    photo = replace(
        geometry, grid=image.size, grid_to_input=geometry.input_to_original.inverse()
    ).on_input(rgb2gray(image.pixels).astype(np.float32))
    magnitude = np.zeros_like(photo)
    rows, cols = (np.isfinite(photo).any(axis=axis) for axis in (1, 0))
    seen = np.ix_(rows, cols)
    magnitude[seen] = sobel(photo[seen])
    cells = replace(
        geometry,
        grid=geometry.input,
        input=geometry.grid,
        grid_to_input=geometry.grid_to_input.inverse(),
    ).on_input(magnitude)
    return np.nan_to_num(cells)
