"""Mosaics as a data set: a network that tells colours apart knows what each tile shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import nn

import visattn
from visattn.errors import ConfigError
from visattn.evaluation.datasets import Dataset, open_dataset
from visattn.evaluation.datasets.mosaics import Mosaics, Photo
from visattn.evaluation.metrics import METRICS
from visattn.evaluation.sample import Excluded, Sample
from visattn.evaluation.tiling import Tiling, _extent, scaled, takes
from visattn.images import Size, load_image
from visattn.models.reference import transform

SIDE = 32
COLOURS = {
    "red": (230, 20, 20),
    "green": (20, 230, 20),
    "blue": (20, 20, 230),
    "white": (230, 230, 230),
    "black": (20, 20, 20),
}


class Colours(nn.Module):
    """Class k is how near the mean colour is to colour k, from inputs of any size.

    With ``fixed``, from inputs of one size only; with ``features``, without a classifier.
    """

    def __init__(self, fixed: int | None = None, features: bool = False) -> None:
        super().__init__()
        wanted = torch.tensor(list(COLOURS.values())) / 127.5 - 1
        self.num_classes = 0 if features else len(COLOURS)
        self.first = nn.Conv2d(3, 3 if features else len(COLOURS), 1)
        if not features:
            self.first.weight.data = 8 * wanted[..., None, None]
            self.first.bias.data = -4 * wanted.pow(2).sum(1)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fixed = fixed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert self.fixed in (None, x.shape[-1]), f"only {self.fixed}"
        return self.global_pool(self.first(x)).flatten(1)


def model_of(module: nn.Module) -> visattn.Model:
    return visattn.load_model(module, transform=transform(Size(SIDE, SIDE)), image_size=SIDE)


@pytest.fixture
def model() -> visattn.Model:
    return model_of(Colours())


def paint(folder: Path, name: str, colour: Sequence[int], height: int = 40) -> None:
    pixels = np.random.default_rng(len(name)).integers(-15, 16, (height, 52, 3)) + colour
    PillowImage.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{name}.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos of each colour, the second darker or lighter, and one that is nothing."""
    for name, colour in COLOURS.items():
        paint(tmp_path, name, colour)
        paint(tmp_path, f"{name} again", [0.95 * each for each in colour], height=61)
    paint(tmp_path, "grey", (127, 127, 127))
    return tmp_path


def parts(spec: str, model: visattn.Model) -> tuple[list[Sample], list[Excluded]]:
    found = list(open_dataset(spec).samples(model))
    return (
        [each for each in found if isinstance(each, Sample)],
        [each for each in found if isinstance(each, Excluded)],
    )


def test_each_tile_holds_its_own_class(photos: Path, model: visattn.Model) -> None:
    found, left_out = parts(f"mosaics:{photos}?count=6", model)
    assert len(found) == 24
    assert left_out == [Excluded("confidence below 0.99", "grey.png")]
    names = list(COLOURS)
    for number, sample in enumerate(found):
        index, (tile, side) = number // 4, sample.tile or (-1, -1)
        assert (tile, side) == (number % 4, 2)
        photo = sample.name.removeprefix(f"mosaic {index}, tile {tile}: ")
        assert names[sample.target] == photo.removesuffix(".png").removesuffix(" again")
        assert (sample.group, sample.label, sample.size) == (f"mosaic {index}", None, (32, 32))
        row, col = divmod(tile, 2)
        expected = np.zeros((32, 32), bool)
        expected[16 * row : 16 * row + 16, 16 * col : 16 * col + 16] = True
        assert (sample.masks["evidence"] == expected).all()
        colour = sample.prepared.image.pixels[expected].mean(axis=0)
        assert np.abs(colour - COLOURS[names[sample.target]]).max() < 15
    assert len({sample.name for sample in found}) == 24


def test_classes_of_a_mosaic_are_distinct_and_no_choice_comes_twice(
    photos: Path, model: visattn.Model
) -> None:
    found, _ = parts(f"mosaics:{photos}?count=70", model)
    groups: dict[str, list[Sample]] = {}
    for sample in found:
        groups.setdefault(sample.group, []).append(sample)
    assert all(len({each.target for each in group}) == 4 for group in groups.values())
    choices = {frozenset(s.name.split(": ")[1] for s in group) for group in groups.values()}
    assert len(choices) == len(groups) == 70  # of 5 * 2 ** 4 = 80


def test_the_draw_comes_from_the_seed_and_more_mosaics_begin_with_the_same(
    photos: Path, model: visattn.Model
) -> None:
    few, many, other = (
        [sample.name for sample in parts(f"mosaics:{photos}?{options}", model)[0]]
        for options in ("count=3", "count=9", "count=3,seed=1")
    )
    assert few == many[: len(few)]
    assert few != other
    digests = [parts(f"mosaics:{photos}?count=2", model)[0][5].digest() for _ in range(2)]
    assert digests[0] == digests[1]


def test_too_few_photos_say_which_confidence_would_do(tmp_path: Path, model: visattn.Model) -> None:
    for name in ("red", "green", "blue"):
        paint(tmp_path, name, COLOURS[name])
    paint(tmp_path, "dim", (95, 95, 95))
    with pytest.raises(ConfigError, match=r"3 distinct classes .* 4 are needed") as raised:
        parts(f"mosaics:{tmp_path}", model)
    repair = str(raised.value).split("confidence=")[1].split()[0]
    assert 0.2 < float(repair) < 0.99
    found, left_out = parts(f"mosaics:{tmp_path}?confidence={repair}", model)
    assert (len(found), left_out) == (4, [])
    (tmp_path / "dim.png").unlink()
    with pytest.raises(ConfigError, match="give more photos"):
        parts(f"mosaics:{tmp_path}?confidence=0", model)


def test_a_tile_is_the_photo_at_the_tile_s_size(photos: Path, model: visattn.Model) -> None:
    found, _ = parts(f"mosaics:{photos}?count=1", model)
    small = transform(Size(16, 16))
    for sample in found:
        tile, photo = sample.tile or (0, 1), sample.name.split(": ")[1]
        row, col = divmod(tile[0], 2)
        inside = sample.prepared.tensor[:, 16 * row : 16 * row + 16, 16 * col : 16 * col + 16]
        assert torch.equal(inside, small(load_image(photos / photo).pillow()))


def test_models_of_any_size_take_larger_mosaics_and_decide_on_the_tile(
    photos: Path, model: visattn.Model
) -> None:
    found, _ = parts(f"mosaics:{photos}?tile=32,count=1", model)
    assert all(sample.size == (64, 64) for sample in found)
    tiling = Tiling.of(model, 2, 32)
    assert tiling.takes_tile
    image = load_image(photos / "red.png")
    assert torch.equal(tiling.alone(image), model.run(tiling.pixels(image)[None]))


def test_a_model_of_one_size_decides_on_the_whole_photo(photos: Path) -> None:
    model = model_of(Colours(fixed=SIDE))
    tiling = Tiling.of(model, 2)
    assert not tiling.takes_tile
    image = load_image(photos / "red.png")
    assert torch.equal(tiling.alone(image), model.run(model.prepare(image).tensor[None]))
    assert len(parts(f"mosaics:{photos}?count=2", model)[0]) == 8
    with pytest.raises(ConfigError, match="load it with image_size=64"):
        parts(f"mosaics:{photos}?tile=32", model)


def test_tiles_that_do_not_fill_the_input_are_refused(photos: Path, model: visattn.Model) -> None:
    with pytest.raises(ConfigError, match="tile=10"):
        parts(f"mosaics:{photos}?side=3", model)


def test_a_model_without_classifier_looks_for_the_embedding_of_the_tile(photos: Path) -> None:
    torch.manual_seed(0)
    model = model_of(Colours(features=True))
    found, left_out = parts(f"mosaics:{photos}?count=2", model)
    assert (len(found), left_out) == (8, [])
    for sample in found:
        image = load_image(photos / sample.name.split(": ")[1])
        alone = model.run(Tiling.of(model, 2).pixels(image)[None])
        assert torch.allclose(sample.target.reference, alone[0])


class Listed(Dataset):
    """Photos with labels, some of them wrong, one of them twice."""

    def samples(self, model: visattn.Model) -> Iterator[Sample | Excluded]:
        yield Excluded("missing annotation", "nothing")
        for index, (name, colour) in enumerate(COLOURS.items()):
            pixels = np.full((40, 40, 3), colour, np.uint8)
            prepared = model.prepare(load_image(pixels))
            yield Sample(f"{name} 0", prepared, label=4 if name == "black" else index)
            yield Sample(f"{name} 1", prepared, label=index)
        prepared = model.prepare(load_image(np.full((50, 40, 3), COLOURS["red"], np.uint8)))
        yield Sample("wrong", prepared, label=3)
        first = model.prepare(load_image(np.full((40, 40, 3), COLOURS["red"], np.uint8)))
        yield Sample("red 2", first, label=0)


def test_other_data_sets_lend_their_photos_and_truths(
    model: visattn.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mosaics, "_opened", lambda self: Listed())
    found = list(Mosaics(Path("listed"), count=1).samples(model))
    assert found[:2] == [Excluded("missing annotation", "nothing"),
                         Excluded("misclassified", "wrong")]  # fmt: skip
    assert {sample.name.split(": ")[1] for sample in found[2:]} < {f"{c} 0" for c in COLOURS}
    assert len(found) == 6


def test_a_photo_counts_once_wherever_it_comes_again(
    model: visattn.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mosaics, "_opened", lambda self: Listed())
    found = Mosaics(Path("listed")).photos(Tiling.of(model, 2))
    names = [each.name for each in found if isinstance(each, Photo)]
    assert names == [f"{colour} 0" for colour in COLOURS]


def test_planted_scenes_become_mosaics() -> None:
    model = visattn.load_model("reference:cbam", image_size=128)
    found = list(open_dataset("mosaics:planted?count=2,confidence=0.3").samples(model))
    assert {each.reason for each in found if isinstance(each, Excluded)} <= {
        "misclassified", "confidence below 0.3"
    }  # fmt: skip
    assert sum(isinstance(each, Sample) for each in found) == 8


def test_unreadable_photos_are_counted(photos: Path, model: visattn.Model) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    _, left_out = parts(f"mosaics:{photos}?count=1", model)
    assert Excluded("unreadable image", "broken.png") in left_out


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("mosaics:nowhere", "neither a folder of photos nor a data set"),
        ("mosaics:{}?side=1", "at least 2 tiles"),
        ("mosaics:{}?count=0", "one mosaic"),
        ("mosaics:{}?tile=0", "one pixel"),
        ("mosaics:{}?confidence=2", "not in 0..1"),
    ],
)
def test_bad_options_are_refused(photos: Path, model: visattn.Model, spec: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parts(spec.format(photos), model)


def test_models_that_cannot_prepare_photos_are_refused(photos: Path, model: visattn.Model) -> None:
    for fact in ("input_size", "preprocessing"):
        with pytest.raises(ConfigError, match="no input size or preprocessing"):
            parts(f"mosaics:{photos}", replace(model, **{fact: None}))


def test_a_gradient_of_the_colour_is_even_over_the_mosaic(
    photos: Path, model: visattn.Model
) -> None:
    # The score is a mean over all pixels, whatever they show: no tile is told from another.
    found, _ = parts(f"mosaics:{photos}?count=1", model)
    sample = found[0]
    (even,) = visattn.explain(model, sample.prepared.tensor[None], method="saliency",
                              target=sample.target, cell=4)  # fmt: skip
    case: Any = type("Case", (), {"found": even, "sample": sample})
    (verdict,) = METRICS.get("grid_pointing")().measure(None, [case])
    assert (verdict.value, verdict.chance) == (pytest.approx(0.25), 0.25)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_scaled_preprocessing_is_the_library_s_own_for_that_size(
    name: str, cat: np.ndarray
) -> None:
    whole, half = (visattn.load_model(name, weights=None, image_size=side) for side in (224, 112))
    smaller = scaled(whole.preprocessing, Size(224, 224), Size(112, 112))
    image = load_image(cat)
    assert torch.equal(smaller(image).tensor, half.prepare(image).tensor)
    assert takes(whole, Size(112, 112)) == (name == "resnet10t")


def test_sizes_are_scaled_whatever_they_are_called() -> None:
    half = (0.5, 0.25)
    assert _extent(101, (0.5, 0.5)) == 51
    assert _extent((10, 20), half) == (5, 5)
    assert _extent([10], half) == [5]
    assert _extent(Size(10, 20), half) == Size(5, 5)
    assert _extent({"height": 10, "width": 20}, half) == {"height": 5, "width": 5}
    named = {"shortest_edge": 9, "longest_edge": None}
    assert _extent(named, (0.5, 0.5)) == {"shortest_edge": 5, "longest_edge": None}


def test_tiles_that_cut_patches_are_refused(photos: Path) -> None:
    model = visattn.load_model("vit_tiny_patch16_224", weights=None, image_size=96)
    assert Tiling.of(model, 2).tile == (48, 48)
    odd = visattn.load_model("vit_tiny_patch16_224", weights=None, image_size=80)
    with pytest.raises(ConfigError, match=r"not whole patches of 16 x 16.* image_size=64"):
        Tiling.of(odd, 2)


@pytest.mark.parametrize("option", ["side=2.0", "count=True", "confidence=sure", "seed='1'"])
def test_options_of_another_kind_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=r"mosaics: \w+=.* is not a"):
        open_dataset(f"mosaics:photos?{option}")
