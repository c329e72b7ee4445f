"""Scenes: a photo and a map on it, through a real resize and centre crop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from visattn.geometry import Affine, Array, Geometry
from visattn.images import Image, Size
from visattn.saliency import SaliencyMap, Target

CAT = Target(285, "Egyptian cat", 0.77)


@dataclass(frozen=True)
class Scene:
    saliency: SaliencyMap
    photo: Image

    def but(self, **changes: object) -> Scene:
        return replace(self, saliency=replace(self.saliency, **changes))


def whole(size: Size, grid: Size) -> Geometry:
    """Every pixel seen, cells of equal size."""
    cell = Affine((size.height / grid.height, size.width / grid.width))
    return Geometry(grid, size, size, cell, Affine())


def cropped(size: Size, grid: Size, side: int = 32, crop: float = 0.8) -> Geometry:
    """The shorter side resized to side / crop, then a centre crop of side x side."""
    scale = side / crop / min(size)
    offset = tuple((length - side / scale) / 2 for length in size)
    cell = Affine((side / grid.height, side / grid.width))
    back = Affine((1 / scale, 1 / scale), offset)
    return Geometry(grid, Size(side, side), size, cell, back)


@pytest.fixture
def scene() -> Callable[..., Scene]:
    def build(
        grid: Array, height: int = 40, width: int = 60, *, crop: bool = False, **facts: object
    ) -> Scene:
        grid = np.asarray(grid, np.float32)
        size, cells = Size(height, width), Size(*grid.shape)
        geometry = cropped(size, cells) if crop else whole(size, cells)
        pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), np.uint8)
        facts = {"method": "rollout", "model": "vit_tiny", "target": CAT, **facts}
        return Scene(SaliencyMap(grid, geometry, **facts), Image(pixels, Path("photos/cat.jpg")))

    return build


@pytest.fixture
def one_hot(scene: Callable[..., Scene]) -> Callable[..., Scene]:
    def build(row: int, col: int, rows: int = 4, cols: int = 4, **options: object) -> Scene:
        grid = np.zeros((rows, cols), np.float32)
        grid[row, col] = 0.03
        return scene(grid, **options)

    return build
