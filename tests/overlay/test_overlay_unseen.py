from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from visattn.geometry import Affine
from visattn.overlay import Style, draw
from visattn.overlay.unseen import hidden_share


def drawn(scene, **style):
    return np.asarray(draw(scene.saliency, scene.photo, Style.create(**style)))


@pytest.mark.parametrize("unseen", ["dim", "hatch", "outline"])
def test_the_unseen_region_is_marked_and_the_seen_one_untouched(one_hot, unseen):
    scene = one_hot(0, 0, height=60, width=160, crop=True)
    picture, photo = drawn(scene, unseen=unseen, opacity=0), scene.photo.pixels
    top, left, bottom, right = scene.saliency.geometry.visible
    inside = np.s_[int(top) + 4 : int(bottom) - 4, int(left) + 4 : int(right) - 4]
    outside = np.s_[:, : int(left) - 4]
    assert (picture[inside] == photo[inside]).all()
    assert (picture[outside] != photo[outside]).any() == (unseen != "outline")
    line = picture[int(top) + 8 : int(bottom) - 8, round(left) - 2 : round(left) + 2]
    assert (line != photo[int(top) + 8 : int(bottom) - 8, round(left) - 2 : round(left) + 2]).any()


def test_dimmed_means_without_colour_and_with_less_contrast(one_hot):
    scene = one_hot(0, 0, height=60, width=160, crop=True)
    away = drawn(scene)[:, :30].astype(int)
    assert (np.ptp(away, axis=2) == 0).all()
    assert 0 < np.ptp(away) < 0.6 * 255


def test_none_leaves_the_photo_alone(one_hot):
    scene = one_hot(0, 0, height=60, width=160, crop=True)
    assert (drawn(scene, unseen="none")[:, :50] == scene.photo.pixels[:, :50]).all()


@pytest.mark.parametrize(("margin", "marked"), [(0.6, False), (0.0, False), (3.0, True)])
def test_less_than_a_pixel_is_not_worth_a_mark(one_hot, margin, marked):
    scene = one_hot(2, 2)
    scale = tuple((side - 2 * margin) / side for side in (40, 60))
    geometry = replace(scene.saliency.geometry, input_to_original=Affine(scale, (margin, margin)))
    scene = scene.but(geometry=geometry)
    assert (drawn(scene, opacity=0) != scene.photo.pixels).any() == marked
    assert (hidden_share(geometry) > 0) == marked


def test_a_map_without_signal_still_shows_what_was_not_seen(one_hot):
    scene = one_hot(0, 0, height=60, width=160, crop=True)
    empty = scene.but(grid=np.full((4, 4), np.nan))
    assert (drawn(empty)[:30, :30] == drawn(scene)[:30, :30]).all()
