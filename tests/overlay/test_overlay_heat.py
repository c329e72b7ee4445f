from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PillowImage

from visattn.errors import ImageError
from visattn.images import Size
from visattn.overlay import Style, draw, heat


def test_the_layer_laid_over_the_photo_is_the_drawing(scene):
    whole = scene(np.random.default_rng(1).random((5, 5)), crop=True)
    style = Style.create(opacity=1, unseen="none")
    layer = heat(whole.saliency, style, whole.photo.size)
    under = whole.photo.pillow().convert("RGBA")
    laid = PillowImage.alpha_composite(under, PillowImage.fromarray(layer)).convert("RGB")
    picture = draw(whole.saliency, whole.photo, style)
    assert np.abs(np.asarray(laid).astype(int) - np.asarray(picture)).max() <= 2


def test_alpha_follows_the_value_and_not_the_opacity(scene):
    steps = scene([[0.0, 1.0, 2.0, 4.0]], height=10, width=40).saliency
    layer = heat(steps, Style(interpolation="nearest", opacity=0.2), Size(10, 40))
    assert layer[5, 5::10, 3].tolist() == [0, 64, 128, 255]
    assert not layer[:, :10].any()


@pytest.mark.parametrize(("height", "width"), [(240, 120), (120, 240)])
def test_a_small_layer_has_its_peak_at_the_same_relative_place(one_hot, height, width):
    saliency = one_hot(1, 6, 8, 8, height=height, width=width, crop=True).saliency
    style = Style(interpolation="nearest")
    layers = [heat(saliency, style, Size(height // by, width // by)) for by in (1, 3)]
    for axis in (0, 1):
        places = [
            (np.nonzero(each[..., 3] == 255)[axis].mean() + 0.5) / each.shape[axis]
            for each in layers
        ]
        assert places[0] == pytest.approx(places[1], abs=0.01)


def test_nothing_is_laid_where_the_model_saw_nothing_or_there_is_no_signal(scene):
    seen_in_part = scene(np.arange(16.0).reshape(4, 4) + 1, height=60, width=160, crop=True)
    layer = heat(seen_in_part.saliency, Style(), Size(60, 160))
    assert not layer[:, :55].any()
    assert layer[30, 90].any()
    for grid in (np.zeros((4, 4)), np.ones((4, 4)), np.full((4, 4), np.nan)):
        assert not heat(seen_in_part.but(grid=grid).saliency, Style(), Size(60, 160)).any()


def test_a_side_rounded_to_whole_pixels_still_shows_the_whole_photo(scene):
    saliency = scene(np.tile([0.0, 1.0, 2.0, 3.0], (2, 1)), height=5, width=300).saliency
    layer = heat(saliency, Style(interpolation="nearest"), Size(2, 100))
    assert layer[:, 75:, 3].min() == 255
    assert layer[:, :25].max() == 0


def test_another_shape_is_refused(one_hot):
    with pytest.raises(ImageError, match=r"60 x 40 .* 30 x 30"):
        heat(one_hot(0, 0).saliency, Style(), Size(30, 30))
