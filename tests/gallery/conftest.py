from __future__ import annotations

from pathlib import Path

import pytest
from gallery_fakes import photo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos: landscape, portrait in a subfolder, and one with the same stem."""
    folder = tmp_path / "photos"
    photo(folder / "cat.jpg")
    photo(folder / "cat.png", spot=(40, 30))
    photo(folder / "deep" / "er" / "portrait.png", 90, 60, spot=(60, 20))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
