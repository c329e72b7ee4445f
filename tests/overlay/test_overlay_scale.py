from __future__ import annotations

import numpy as np
import pytest

from visattn.errors import ConfigError
from visattn.overlay import Scale, Style, shared_limits
from visattn.overlay.colorbar import end_labels


def test_limits_come_from_the_cells_and_not_from_the_visible_pixels(scene):
    grid = np.ones((4, 4))
    grid[0, 0], grid[3, 3] = 0.0, 5.0
    scale = Scale.of(scene(grid, crop=True).saliency, Style())
    assert (*scale.limits, scale.name) == (0.0, 5.0, "minmax")


def test_signed_maps_diverge_and_zero_is_zero(scene):
    signed = scene([[-3.0, 0.0, 1.0]], signed=True).saliency
    scale = Scale.of(signed, Style())
    assert scale.diverging
    assert scale.values(signed.grid)[0] == pytest.approx([-1.0, 0.0, 1 / 3])
    assert scale.values(signed.grid)[0, 1] == 0.0
    assert not Scale.of(signed, Style(normalization="max")).diverging


def test_shared_limits_cover_all_maps_with_a_signal(scene):
    maps = [scene(grid).saliency for grid in ([[1.0, 3.0]], [[2.0, 9.0]], [[50.0, 50.0]])]
    assert shared_limits(maps) == (1.0, 9.0)
    assert Style.create(limits=shared_limits(maps)).limits == (1.0, 9.0)
    with pytest.raises(ConfigError, match="no scale"):
        shared_limits(maps[2:])
    signed = scene([[-4.0, 1.0]], signed=True).saliency
    with pytest.raises(ConfigError, match="symmetric"):
        shared_limits([maps[0], signed])
    assert shared_limits([maps[0], signed], "symmetric") == (-4.0, 4.0)


@pytest.mark.parametrize(
    ("grid", "style", "labels"),
    [
        ([[0.001234, 0.0345]], {}, ("0.00123", "0.0345")),
        ([[0.00390621, 0.00390652]], {}, ("0.00390621", "0.00390652")),
        ([[-1.0, 9.0]], {"limits": (0, 4)}, ("≤ 0", "≥ 4")),
        ([[1.0, 3.0]], {"limits": (0, 4)}, ("0", "4")),
    ],
)
def test_the_ends_are_labelled_with_raw_values(scene, grid, style, labels):
    saliency = scene(grid).saliency
    assert end_labels(Scale.of(saliency, Style.create(**style)), saliency.grid) == labels
