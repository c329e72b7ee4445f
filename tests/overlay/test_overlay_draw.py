from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image as PillowImage

from visattn.errors import ConfigError, ImageError
from visattn.images import Image
from visattn.overlay import Style, draw

PLAIN = {"unseen": "none", "interpolation": "nearest"}


def drawn(scene, **style):
    return np.asarray(draw(scene.saliency, scene.photo, Style.create(**style)))


def top_colour(name, end=1.0):
    return np.rint(np.array(colormaps[name](end)[:3]) * 255).astype(np.uint8)


@pytest.mark.parametrize("name", [None, "inferno", "plasma", "jet"])
def test_the_hottest_cell_has_the_top_colour_of_the_colormap(one_hot, name):
    picture = drawn(one_hot(1, 2), opacity=1, interpolation="nearest", colormap=name)
    assert (picture[10:20, 30:45] == top_colour(name or "viridis")).all()


@pytest.mark.parametrize(("height", "width"), [(90, 50), (50, 90)])
@pytest.mark.parametrize(("row", "col"), [(0, 0), (0, 7), (7, 0), (7, 7), (2, 5)])
def test_an_off_centre_peak_is_painted_where_the_cell_lies_on_the_photo(
    one_hot, height, width, row, col
):
    scene = one_hot(row, col, 8, 8, height=height, width=width, crop=True)
    photo = scene.photo.pixels.astype(int)
    changed = np.abs(drawn(scene, opacity=1, **PLAIN).astype(int) - photo).sum(2) > 0
    rows, cols = np.nonzero(changed)
    # the crop keeps 80 % of the shorter side, in the middle of both sides
    cell = 0.8 * 50 / 8
    top, left = (height - 40) / 2 + row * cell, (width - 40) / 2 + col * cell
    assert rows.mean() + 0.5 == pytest.approx(top + cell / 2, abs=0.6)
    assert cols.mean() + 0.5 == pytest.approx(left + cell / 2, abs=0.6)
    assert len(rows) == pytest.approx(cell**2, abs=6)


def test_the_photo_is_unchanged_where_the_map_is_zero(one_hot):
    scene = one_hot(0, 0)
    picture = drawn(scene)
    assert (picture[20:, 30:] == scene.photo.pixels[20:, 30:]).all()
    assert (picture[:5, :7] != scene.photo.pixels[:5, :7]).any()


def test_zero_of_a_signed_map_is_not_painted_and_the_signs_get_opposite_ends(scene):
    grid = np.zeros((4, 4))
    grid[0, 0], grid[3, 3] = 2.0, -4.0
    signed = scene(grid, signed=True)
    picture = drawn(signed, opacity=1, **PLAIN)
    photo = signed.photo.pixels
    assert (picture[10:30] == photo[10:30]).all()
    assert (picture[30:, 45:] == top_colour("bwr", 0.0)).all()
    # +2 on a scale of -4..4 is half way up: half paint of the colour at three quarters
    tone = 255 * np.array(colormaps["bwr"](np.rint(0.75 * 255) / 255)[:3])
    assert np.allclose(picture[:10, :15], 0.5 * photo[:10, :15] + 0.5 * tone, atol=0.51)


def test_the_blend_equals_a_naive_formula_pixel_by_pixel(scene):
    grid = np.random.default_rng(3).random((5, 6)) * 0.02 + 0.01
    whole = scene(grid, height=300, width=37)
    picture = drawn(whole, opacity=0.65, colormap="magma")
    values = whole.saliency.on_image().astype(np.float64)
    low, high = float(whole.saliency.grid.min()), float(whole.saliency.grid.max())
    table = colormaps["magma"]
    for row in range(0, 300, 7):
        for col in range(37):
            value = float(np.float32(min(max((values[row, col] - low) / (high - low), 0), 1)))
            alpha = 0.65 * value
            tone = 255 * np.array(table(round(value * 255))[:3])
            expected = (1 - alpha) * whole.photo.pixels[row, col] + alpha * tone
            assert (picture[row, col] == np.rint(expected)).all(), (row, col)


def test_colour_and_paint_are_linear_in_the_value(scene):
    steps = np.linspace(0, 3.0, 16)[None, :]
    black = scene(steps, height=4, width=160)
    black = type(black)(black.saliency, Image(np.zeros((4, 160, 3), np.uint8)))
    white = type(black)(black.saliency, Image(np.full((4, 160, 3), 255, np.uint8)))
    dark = drawn(black, opacity=1, colormap="gray", interpolation="nearest")[0, 5::10, 0]
    light = drawn(white, opacity=1, colormap="gray", interpolation="nearest")[0, 5::10, 0]
    share = np.linspace(0, 1, 16)
    assert np.allclose((255.0 - light + dark) / 255.0, share, atol=0.005)
    assert np.allclose(dark / 255.0, share * share, atol=0.005)


def test_opacity_zero_is_the_photo_and_inputs_are_never_written_to(one_hot):
    scene = one_hot(1, 1, crop=True)
    grid, pixels = scene.saliency.grid.copy(), scene.photo.pixels.copy()
    assert (drawn(scene, opacity=0, unseen="none") == pixels).all()
    everything = {"contours": True, "mask": 0.5, "box": 0.5, "caption": True, "colorbar": True}
    for unseen in ("dim", "hatch"):
        drawn(scene, unseen=unseen, **everything)
    assert (scene.photo.pixels == pixels).all()
    assert (scene.saliency.grid == grid).all()


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_hot_stays_hot_through_a_file(one_hot, format_):
    scene = one_hot(1, 1, height=64, width=64)
    picture = draw(scene.saliency, scene.photo, Style.create(opacity=1, **PLAIN))
    file = io.BytesIO()
    picture.save(file, format_, **({"quality": 95} if format_ == "JPEG" else {}))
    again = np.asarray(PillowImage.open(file).convert("RGB")).astype(int)
    assert again.shape == (64, 64, 3)
    # far enough inside for JPEG's 16 pixel chroma blocks
    assert np.abs(again[18:30, 18:30].mean((0, 1)) - top_colour("viridis")).max() < 12
    assert again[24, 24, 0] > again[24, 24, 2] + 100


def test_limits_are_shared_exactly(scene):
    weak, strong = scene([[0.0, 1.0], [2.0, 1.0]]), scene([[0.0, 1.0], [4.0, 0.0]])
    limits = {"limits": (0.0, 4.0), **PLAIN}
    quarter_of_weak = drawn(weak, **limits)[:20, 30:]
    assert (quarter_of_weak == drawn(strong, **limits)[:20, 30:]).all()
    assert (quarter_of_weak != drawn(weak, **PLAIN)[:20, 30:]).any()


def test_a_signed_map_refuses_limits_that_move_zero(scene):
    signed = scene([[-1.0, 2.0]], signed=True)
    with pytest.raises(ConfigError, match=r"\(-2, 2\)"):
        drawn(signed, limits=(-1.0, 2.0))
    assert (drawn(signed, limits=(0.0, 2.0), **PLAIN)[:, :30] == signed.photo.pixels[:, :30]).all()


def test_a_photo_of_another_size_is_refused_with_both_sizes(one_hot):
    scene = one_hot(0, 0)
    with pytest.raises(ImageError, match=r"60 x 41 .* 60 x 40"):
        draw(scene.saliency, Image(np.zeros((41, 60, 3), np.uint8)), Style())


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (7, 5), (63, 20), (30, 900)], ids=str)
@pytest.mark.parametrize("empty", [False, True])
def test_small_and_narrow_photos_are_drawn(scene, size, empty):
    grid = np.zeros((3, 3)) if empty else np.arange(9.0).reshape(3, 3)
    small = scene(grid, height=size[0], width=size[1])
    assert drawn(small).shape == (*size, 3)
    options = {"contours": True, "mask": 0.5, "box": 0.5, "colorbar": True, "caption": True}
    picture = drawn(small, **options)
    assert picture.shape[0] > size[0]
    assert picture.shape[1] >= max(224, size[1])


def test_the_mask_dims_all_but_the_top_cells(scene):
    masked = scene([[8.0, 1.0], [1.0, 0.0]])
    picture = drawn(masked, mask=0.8, dim=1, opacity=0)
    photo = masked.photo.pixels
    assert (picture[:20, :30] == photo[:20, :30]).all()
    assert not picture[20:].any()
    assert not picture[:20, 30:].any()
    half = drawn(masked, mask=0.8, dim=0.5, opacity=0)
    assert (half[20:] == np.rint(photo[20:] * 0.5)).all()


def test_the_box_is_drawn_inside_its_cells(scene):
    boxed = scene(np.pad([[5.0]], ((1, 2), (2, 1))), height=80, width=80)
    picture = drawn(boxed, box=0.5, opacity=0, line_color="#ff0000", line_width=1)
    red = (picture == (255, 0, 0)).all(2)
    rows, cols = np.nonzero(red)
    assert (rows.min(), rows.max(), cols.min(), cols.max()) == (20, 39, 40, 59)
    assert not red[24:36, 44:56].any()
