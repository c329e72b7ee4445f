from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from visattn.geometry import Affine
from visattn.overlay import mass_box, mass_mask


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8, 0.99, 1.0])
def test_no_smaller_set_of_cells_holds_the_share(share):
    grid = np.random.default_rng(5).normal(size=(3, 3)).astype(np.float32)
    mass = np.clip(grid.astype(np.float64), 0, None).ravel()
    taken = mass_mask(grid, share)
    fewest = next(
        count
        for count in range(1, 10)
        if any(
            sum(mass[list(cells)]) >= share * mass.sum() * (1 - 1e-9)
            for cells in itertools.combinations(range(9), count)
        )
    )
    assert taken.sum() == fewest
    assert mass[taken.ravel()].sum() >= share * mass.sum() * (1 - 1e-9)
    assert not taken[grid <= 0].any()


def test_equal_cells_are_taken_in_reading_order():
    assert mass_mask(np.ones((2, 2), np.float32), 0.5).tolist() == [[True, True], [False, False]]


def test_without_positive_mass_there_is_no_mask_and_no_box(scene):
    negative = scene([[-1.0, -2.0]], signed=True).saliency
    assert not mass_mask(negative.grid, 0.5).any()
    assert mass_box(negative, 0.5) is None


def test_the_box_frames_the_largest_region_in_photo_pixels(scene):
    grid = np.zeros((5, 6))
    grid[0, 5] = 20.0  # one hot cell alone is smaller than three warm ones
    grid[2, 1] = grid[3, 1] = grid[4, 2] = 3.0
    assert mass_box(scene(grid, height=50, width=90).saliency, 1.0) == (20, 15, 50, 45)


@pytest.mark.parametrize(("height", "width"), [(100, 60), (60, 100)])
def test_the_box_goes_through_resize_and_crop(one_hot, height, width):
    saliency = one_hot(1, 6, 8, 8, height=height, width=width, crop=True).saliency
    top, left = (height - 48) / 2, (width - 48) / 2
    assert mass_box(saliency, 0.5) == pytest.approx((top + 6, left + 36, top + 12, left + 42))


def test_the_box_is_cut_at_what_the_model_saw(one_hot):
    saliency = one_hot(0, 0, height=40, width=40).saliency
    shifted = replace(saliency.geometry, input_to_original=Affine((1, 1), (-4, -6)))
    assert mass_box(replace(saliency, geometry=shifted), 0.5) == (0, 0, 6, 4)
    away = replace(saliency.geometry, input_to_original=Affine((1, 1), (-20, 0)))
    assert mass_box(replace(saliency, geometry=away), 0.5) is None
