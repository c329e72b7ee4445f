"""Shared fixtures: small models, photographs, one thread per process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data

import visattn

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def cat() -> np.ndarray:
    """Landscape photograph, uint8 (300, 451, 3)."""
    return data.chelsea()


@pytest.fixture(scope="session")
def photos() -> Path:
    return Path(__file__).parent.parent / "data" / "photos"


@pytest.fixture(scope="session")
def dinov2() -> visattn.Model:
    """Trained DINOv2-small at a small non-square size, from the pinned wheel."""
    return visattn.load_model("packaged:dinov2_small", image_size=(140, 196))


@pytest.fixture(scope="session")
def lite0() -> visattn.Model:
    """Trained EfficientNet-Lite0, from the pinned wheel."""
    return visattn.load_model("packaged:efficientnet_lite0")
