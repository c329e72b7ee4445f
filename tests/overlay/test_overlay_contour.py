from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from visattn.images import Size
from visattn.overlay import Scale, Style, contours
from visattn.overlay.stroke import coverage


def lines(saliency, *levels):
    return contours(saliency, Scale.of(saliency, Style()), levels)


@pytest.mark.parametrize("level", [0.25, 0.5, 0.75])
def test_every_point_of_a_contour_lies_on_its_level(scene, level):
    smooth = np.add.outer(np.arange(6.0), np.arange(8.0))
    saliency = scene(smooth, height=120, width=200).saliency
    back = saliency.geometry.grid_to_original.inverse()
    (path,) = lines(saliency, level)
    assert len(path) > 20
    for row, col in path:
        across, along = back(row, col)
        value = np.clip(across - 0.5, 0, 5) + np.clip(along - 0.5, 0, 7)
        assert value / 12 == pytest.approx(level, abs=0.004)


def test_large_photos_get_the_same_contour_as_small_ones(scene):
    ramp = np.tile(np.arange(4.0), (3, 1))
    small = lines(scene(ramp, height=60, width=80).saliency, 0.5)
    large = lines(scene(ramp, height=1800, width=2400).saliency, 0.5)
    assert np.allclose(small[0][:, 1], 40, atol=0.1)
    assert np.allclose(large[0][:, 1], 1200, atol=1)


def test_contours_stop_where_the_model_saw_nothing(scene):
    saliency = scene(np.tile(np.arange(4.0), (4, 1)), height=100, width=60, crop=True).saliency
    (path,) = lines(saliency, 0.5)
    seen = saliency.geometry.visible
    assert path[:, 0].min() >= seen.top
    assert path[:, 0].max() <= seen.bottom


def test_negative_levels_belong_to_signed_maps(scene):
    signed = scene(np.tile(np.linspace(-2, 2, 9), (2, 1)), width=90, signed=True).saliency
    assert np.allclose(lines(signed, -0.5)[0][:, 1], 25, atol=0.1)
    assert not lines(replace(signed, grid=np.zeros((2, 9))), 0.5)


@pytest.mark.parametrize("width", [1, 1.5, 2, 3, 4, 7])
@pytest.mark.parametrize("row", [10.0, 10.5, 10.3, 255.8])
def test_a_line_is_as_wide_as_asked_and_centred_on_its_path(width, row):
    drawn = coverage([np.array([(row, 2.0), (row, 38.0)])], Size(300, 40), width)
    weights = drawn[:, 20] / 255
    assert weights.sum() == pytest.approx(width, abs=0.3)
    centre = ((np.arange(300) + 0.5) * weights).sum() / weights.sum()
    assert centre == pytest.approx(row, abs=0.2)


def test_lines_are_antialiased():
    drawn = coverage([np.array([(2.0, 2.0), (18.0, 38.0)])], Size(20, 40), 2)
    assert ((drawn > 0) & (drawn < 255)).sum() > 30
