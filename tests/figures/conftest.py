"""Maps over plain photos, for figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visattn.geometry import Affine, Geometry
from visattn.images import Image, Size
from visattn.saliency import SaliencyMap, Target

MakeMap = Callable[..., SaliencyMap]


def cropped(size: Size, grid: Size, crop: float) -> Geometry:
    """A square centre crop of the photo's shorter side times ``crop``, seen at 64 x 64 pixels."""
    side = crop * min(size)
    offset = tuple((length - side) / 2 for length in size)
    cell = Affine((64 / grid.height, 64 / grid.width))
    return Geometry(grid, Size(64, 64), size, cell, Affine((side / 64, side / 64), offset))


@pytest.fixture
def make_map() -> MakeMap:
    """Build a map: grid, then ``name``, ``size`` and ``crop`` of its photo, and its facts."""

    def build(
        grid: Any = None,
        *,
        name: str = "cat",
        size: tuple[int, int] = (60, 100),
        crop: float | None = None,
        tone: int | None = 120,
        changed: dict[str, Any] | None = None,
        source: str = "",
        **facts: Any,
    ) -> SaliencyMap:
        cells = np.arange(12).reshape(3, 4) / 11 if grid is None else grid
        values = np.asarray(cells, np.float32)
        photo_size, cells_size = Size(*size), Size(*values.shape)
        if crop is None:
            geometry = Geometry.plain(photo_size).with_grid(cells_size)
        else:
            geometry = cropped(photo_size, cells_size, crop)
        random = np.random.default_rng(len(name)).integers(0, 256, (*photo_size, 3), np.uint8)
        pixels = random if tone is None else np.full_like(random, tone)
        pixels[0, 0] = len(name)  # photos of other names have other hashes
        photo = Image(pixels, Path(f"{name}.jpg"))
        provenance = {
            "image": {"path": f"{name}.jpg", "sha256": photo.sha256},
            "changed": changed or {},
            "options": changed or {},
            "model": {"source": source},
        }
        known = {"method": "gradcam", "model": "vit_tiny", "target": Target(285, "cat", 0.77)}
        return SaliencyMap(
            values, geometry, provenance=provenance, photo=photo, **{**known, **facts}
        )

    return build


@pytest.fixture
def silent(make_map: MakeMap) -> SaliencyMap:
    """A map whose cells are all zero."""
    return replace(make_map(np.zeros((3, 4))), method="layercam")
