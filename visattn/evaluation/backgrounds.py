"""Backgrounds of planted scenes: crops of real textures and photographs in scikit-image's wheel."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from skimage import data

# Public domain or CC0 as the documentation of skimage.data says, and inside its wheel.
SOURCES = (
    "brick", "grass", "gravel", "cell", "hubble_deep_field", "astronaut", "camera", "chelsea",
    "coffee", "retina", "rocket",
)  # fmt: skip
TRAINED = 0.6  # share of each source's width that training crops come from; tests have the rest
ZOOM = (0.6, 1.6)  # source pixels per pixel of a scene
TINT = 0.25


@cache
def source(name: str) -> np.ndarray:
    """Return a source (row, col, 3), uint8, grey ones in three equal channels."""
    image = getattr(data, name)()
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def background(random: np.random.Generator, size: int, training: bool) -> np.ndarray:
    """Return a random crop (row, col, 3), float32 in 0..255, mirrored and tinted at random.

    Crops for training and for testing come from disjoint parts of the sources.
    """
    whole = source(SOURCES[random.integers(len(SOURCES))])
    split = int(whole.shape[1] * TRAINED)
    part = whole[:, :split] if training else whole[:, split:]
    extent = min(round(size * random.uniform(*ZOOM)), *part.shape[:2])
    top, left = (random.integers(side - extent + 1) for side in part.shape[:2])
    crop = part[top : top + extent, left : left + extent]
    if random.random() < 0.5:
        crop = crop[:, ::-1]
    shrinks = extent > size
    scaled = cv2.resize(
        np.ascontiguousarray(crop, dtype=np.float32),
        (size, size),
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    tint = random.uniform(1 - TINT, 1 + TINT, size=3).astype(np.float32)
    tinted: np.ndarray = np.clip(scaled * tint, 0, 255)
    return tinted
