"""Notebooks: a map shows itself."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from visattn.overlay.notebook import SIDE


def opened(data: bytes) -> np.ndarray:
    with PillowImage.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def held(scene: Any) -> Any:
    return replace(scene.saliency, photo=scene.photo)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (900, 600)])
def test_a_map_shows_itself_over_its_photo(one_hot: Any, height: int, width: int) -> None:
    found = held(one_hot(1, 2, height=height, width=width))
    grey = replace(found.photo, pixels=np.full((height, width, 3), 90, np.uint8))
    shown = opened(replace(found, photo=grey)._repr_png_())
    shrink = min(1, SIDE / max(height, width))
    high, wide = round(height * shrink), round(width * shrink)
    photo = shown[:high, :wide].astype(int)
    yellow = photo[..., 0] + photo[..., 1] - 2 * photo[..., 2]
    cell = yellow.reshape(4, high // 4, 4, wide // 4).max(axis=(1, 3))
    assert np.unravel_index(cell.argmax(), cell.shape) == (1, 2)
    assert shown.shape[0] > high, "caption and colour bar stand below"


def test_html_holds_picture_and_caption(one_hot: Any) -> None:
    text = held(one_hot(1, 2, warnings=("a < b",)))._repr_html_()
    data = re.search(r'src="data:image/png;base64,([^"]+)"', text)
    assert data is not None
    assert opened(base64.b64decode(data[1])).ndim == 3
    assert "cat.jpg" in text
    assert "class: Egyptian cat (0.77)" in text
    assert "Warning: a &lt; b" in text


def test_a_map_whose_photo_is_gone_says_so(one_hot: Any) -> None:
    found = replace(
        one_hot(1, 2).saliency, provenance={"image": {"path": "gone.jpg", "sha256": "0"}}
    )
    assert "without its photo: gone.jpg: cannot be read" in found._repr_html_()
    drawn = opened(found._repr_png_())
    assert drawn[4, 4].tolist() == [235, 235, 235]


def test_a_map_without_signal_shows_the_reason(scene: Any) -> None:
    found = held(scene(np.zeros((4, 4)), warnings=("no signal: all cells are zero",)))
    assert "no signal: all cells are zero" in found._repr_html_()
    assert opened(found._repr_png_()).ndim == 3
