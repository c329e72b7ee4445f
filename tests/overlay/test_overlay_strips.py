from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps

from visattn.geometry import Geometry
from visattn.images import Image, Size
from visattn.overlay import Scale, Style, draw
from visattn.overlay.caption import explained, file_name, notes, title
from visattn.overlay.colorbar import colorbar
from visattn.overlay.strip import Sheet
from visattn.saliency import SaliencyMap, Target

STRIPS = ({"colorbar": True}, {"caption": True}, {"colorbar": True, "caption": True})
AGNOSTIC = "class-agnostic: the same map for every class"
WORDY = {
    "method": "transformer_attribution",
    "model": "hf:some-organisation/vit-with-a-really-long-name-patch16-224-in21k-finetuned",
    "target": Target(657, "missile, projectile missile and more words", 0.4321),
    "prediction": Target(812, "space shuttle", 0.5),
    "warnings": ("2 outlier tokens hold 14 % of the mass", "x" * 400),
}


def drawn(scene, **style):
    return np.asarray(draw(scene.saliency, scene.photo, Style.create(**style)))


@pytest.mark.parametrize("strips", STRIPS, ids=str)
@pytest.mark.parametrize("size", [(40, 60), (300, 240), (90, 500)], ids=str)
@pytest.mark.parametrize("empty", [False, True])
def test_strips_never_cover_the_photo(scene, strips, size, empty):
    grid = np.arange(20.0).reshape(4, 5) * (not empty)
    whole = scene(grid, height=size[0], width=size[1], crop=True, **WORDY)
    plain, annotated = drawn(whole), drawn(whole, **strips)
    assert plain.shape == (*size, 3)
    assert annotated.shape[0] > size[0]
    if empty:  # without strips the reason has to stand on the photo
        plain = drawn(scene(np.arange(20.0).reshape(4, 5), *size, crop=True), opacity=0)
    assert (annotated[: size[0], : size[1]] == plain).all()


@pytest.mark.parametrize("width", [60, 224, 700])
def test_no_text_reaches_the_edge(scene, width):
    wordy = scene([[0.0, 1.0]], width=width, **WORDY)
    photo = Image(wordy.photo.pixels, Path("a-file-name-without-end-" * 9 + ".jpeg"))
    picture = np.asarray(draw(wordy.saliency, photo, Style(caption=True, colorbar=True)))
    strips = picture[40:]
    margin = 5
    for edge in (strips[:, :margin], strips[:, -margin:], strips[-margin:]):
        assert (edge == 255).all()
    assert (strips < 128).any()


def test_the_caption_names_everything(scene):
    whole = scene([[0.0, 1.0]], crop=True, warnings=("odd",))
    assert file_name(whole.saliency, whole.photo) == "cat.jpg"
    bare = Image(whole.photo.pixels)
    assert file_name(whole.saliency, bare) == "photo without a file"
    stored = whole.but(provenance={"image": {"path": "a/b/dog.png"}}).saliency
    assert file_name(stored, bare) == "dog.png"
    style = Style.create(contours=[0.25], mask=0.5, box=0.8)
    said = "\n".join(notes(whole.saliency, style, Scale.of(whole.saliency, style)))
    for words in ("minmax, 0 to 1", "0.25", "Greyed", "50 %", "80 %", "odd"):
        assert words in said


@pytest.mark.parametrize(
    ("target", "prediction", "words"),
    [
        (Target(1, "cat", 0.8), Target(1, "cat", 0.8), "class: cat (0.80), the prediction"),
        (Target(1, "cat", 0.8), None, "class: cat (0.80)"),
        (
            Target(1, "cat", 1e-4),
            Target(2, "cup", 0.9),
            "class: cat (below 0.01); prediction: cup (0.90)",
        ),
        (Target(None, "similarity to dog.jpg"), None, "target: similarity to dog.jpg"),
        (None, Target(2, "cup", 0.9), f"{AGNOSTIC}; prediction: cup (0.90)"),
        (None, None, AGNOSTIC),
    ],
)
def test_what_is_explained_is_said_in_words(scene, target, prediction, words):
    saliency = scene([[0.0, 1.0]], target=target, prediction=prediction).saliency
    assert explained(saliency) == words


def test_the_bar_runs_from_no_paint_to_the_top_colour(scene):
    saliency = scene([[0.0, 1.0]]).saliency
    sheet = Sheet(400, 12, (255, 255, 255))
    bar = np.asarray(colorbar(Scale.of(saliency, Style()), saliency.grid, 1.0, sheet))
    row = sheet.margin + 5
    right, left = bar[row, 400 - sheet.margin - 2], bar[row, sheet.margin + 1]
    assert np.abs(right - 255 * np.array(colormaps["viridis"](1.0)[:3])).max() < 4
    assert np.ptp(left.astype(int)) < 4
    assert left.min() > 190


def test_a_map_without_signal_says_so_and_is_not_stretched(scene):
    noise = 1.0 + 1e-9 * np.random.default_rng(0).random((4, 4))
    empty = scene(noise, height=200, width=300)
    photo = empty.photo.pixels
    inside = drawn(empty)
    assert inside.shape == photo.shape
    assert (inside[:100] == photo[:100]).all()
    assert (inside[-5:, -5:] < 40).all()
    assert (inside[150:] == 255).all(2).sum() > 50
    below = drawn(empty, colorbar=True)
    assert (below[:200, :300] == photo).all()
    assert below.shape[0] > 215


def test_an_empty_scale_is_announced(scene):
    spike = np.zeros((20, 20))
    spike[3, 4] = 1.0
    silent = scene(spike, height=200, width=300)
    assert (drawn(silent) != silent.photo.pixels).any()
    assert (drawn(silent, normalization="percentile")[-5:, -5:] < 40).all()


def test_a_dark_background_gets_light_text(one_hot):
    strips = drawn(one_hot(0, 0), caption=True, background="#101010")[40:]
    assert (strips > 230).any()
    assert (strips[-4:] == 16).all()


def test_title_names_the_options_that_are_not_defaults() -> None:
    plain = SaliencyMap(np.eye(1, 2), Geometry.plain(Size(1, 2)), "rollout", "vit")
    changed = replace(plain, provenance={"changed": {"start_layer": 4}})
    assert title(plain) == "rollout of vit"
    assert title(changed) == "rollout (start_layer=4) of vit"
