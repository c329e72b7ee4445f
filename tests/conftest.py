"""Shared fixtures: small models, photographs, one thread per process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data

import visattn

torch.set_num_threads(1)

CHROMIUM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of a process: playwright does not start twice in one."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=CHROMIUM)
        yield opened
        opened.close()


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
