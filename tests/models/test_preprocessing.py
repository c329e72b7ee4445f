"""Preprocessing by evidence: a bright dot goes through the real transform and is found again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from timm.data import create_transform
from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio
from torchvision import transforms

from visattn.errors import ModelError
from visattn.geometry import Geometry
from visattn.images import Image, Size, load_image
from visattn.models.preprocessing import Prepared, Preprocessing

PHOTOS = {
    "landscape": Size(90, 141), "portrait": Size(141, 90), "panorama": Size(64, 250),
    "small": Size(34, 55), "square": Size(100, 100),
}  # fmt: skip
INPUTS = [Size(48, 48), Size(48, 80), Size(80, 48)]
DOT = 5
BLACK = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def dots(size: Size) -> list[tuple[int, int]]:
    """Return off-centre positions (row, col) of the first pixel of a dot, also near the edges."""
    rows = np.linspace(1, size.height - DOT - 1, 5).astype(int)
    cols = np.linspace(1, size.width - DOT - 1, 5).astype(int)
    return [(int(r), int(c)) for r in rows for c in cols]


def photo(size: Size, row: int, col: int) -> Image:
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[row : row + DOT, col : col + DOT] = 255
    return Image(pixels)


def brightest(prepared: Prepared) -> tuple[float, float] | None:
    """Return the centre of mass of what is bright in the input, mapped back to the photo."""
    values = prepared.tensor.double().mean(dim=0).clamp(min=0)
    if values.max() < 1e-3:
        return None
    values = values / values.sum()
    rows, cols = (torch.arange(n) + 0.5 for n in values.shape)
    row = float((values.sum(dim=1) * rows).sum())
    col = float((values.sum(dim=0) * cols).sum())
    return prepared.geometry.input_to_original(row, col)


def is_inside(geometry: Geometry, row: int, col: int, margin: float) -> bool:
    box = geometry.visible
    vertical = box.top + margin <= row and row + DOT <= box.bottom - margin
    return vertical and box.left + margin <= col and col + DOT <= box.right - margin


def is_outside(geometry: Geometry, row: int, col: int, margin: float) -> bool:
    box = geometry.visible
    vertical = row + DOT + margin < box.top or row > box.bottom + margin
    return vertical or col + DOT + margin < box.left or col > box.right + margin


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_pct", [0.8, 1.0])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", INPUTS, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("name", PHOTOS)
def test_a_dot_is_found_where_it_was_put(
    name: str, size: Size, mode: str, crop_pct: float, interpolation: str
) -> None:
    real = create_transform(
        (3, *size), crop_mode=mode, crop_pct=crop_pct, interpolation=interpolation, **BLACK
    )
    prepare = Preprocessing.from_transform(real)
    found = 0
    for row, col in dots(PHOTOS[name]):
        prepared = prepare(photo(PHOTOS[name], row, col))
        assert prepared.geometry.original == PHOTOS[name]
        assert prepared.geometry.input == size == prepared.tensor.shape[-2:]
        margin = 3 * max(1.0, *prepared.geometry.input_to_original.scale)
        place = brightest(prepared)
        if is_outside(prepared.geometry, row, col, margin):
            assert place is None
        elif is_inside(prepared.geometry, row, col, margin):
            assert place == pytest.approx((row + DOT / 2, col + DOT / 2), abs=0.5)
            found += 1
    assert found >= 1


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_a_grid_read_from_the_input_lies_on_the_dot(name: str, mode: str) -> None:
    size, grid = Size(48, 80), Size(6, 10)
    prepare = Preprocessing.from_transform(
        create_transform((3, *size), crop_mode=mode, crop_pct=0.9, **BLACK)
    )
    hits = 0
    for row, col in dots(PHOTOS[name]):
        prepared = prepare(photo(PHOTOS[name], row, col))
        chain = prepared.geometry.with_grid(grid)
        if not is_inside(chain, row, col, 3):
            continue
        patches = prepared.tensor.mean(dim=0).reshape(6, 8, 10, 8).mean(dim=(1, 3)).numpy()
        drawn = chain.on_original(patches)
        peak = np.array(np.unravel_index(np.nanargmax(drawn), drawn.shape)) + 0.5
        box = chain.cell_box(0, 0)
        cell = np.array([box.bottom - box.top, box.right - box.left])
        assert (np.abs(peak - (row + DOT / 2, col + DOT / 2)) <= np.maximum(cell, DOT)).all()
        hits += 1
    assert hits


def test_the_dot_of_a_photo_taken_upright_is_found_upright(tmp_path: Any) -> None:
    upright = photo(Size(90, 141), 20, 90)
    tags = PillowImage.Exif()
    tags[0x0112] = 6
    turned = upright.pillow().transpose(PillowImage.Transpose.ROTATE_90)
    turned.save(tmp_path / "p.png", exif=tags.tobytes())
    prepare = Preprocessing.from_transform(create_transform((3, 48, 48), crop_pct=1.0, **BLACK))
    prepared = prepare(load_image(tmp_path / "p.png"))
    assert prepared.geometry.original == Size(90, 141)
    assert brightest(prepared) == pytest.approx((22.5, 92.5), abs=0.5)


# Crops and pads, pixel by pixel ---------------------------------------------------------------


def index_image(size: Size) -> Image:
    """Every pixel tells its row in red and its column in green, counted from 1; padding is 0."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, :, 0] = np.arange(1, size.height + 1)[:, None]
    pixels[:, :, 1] = np.arange(1, size.width + 1)
    return Image(pixels)


@pytest.mark.parametrize("crop", [transforms.CenterCrop, CenterCropOrPad])
@pytest.mark.parametrize("height", [30, 31, 32, 33])
@pytest.mark.parametrize("width", [50, 51, 52, 53])
def test_crops_and_pads_take_the_pixels_that_the_geometry_says(
    crop: Any, height: int, width: int
) -> None:
    image = index_image(Size(height, width))
    for size in [Size(20, 21), Size(21, 44), Size(36, 44), Size(37, 70), Size(41, 71)]:
        prepare = Preprocessing.from_transform(
            transforms.Compose([crop(size), transforms.ToTensor()])
        )
        prepared = prepare(image)
        told = (prepared.tensor[:2] * 255).round().int().numpy() - 1
        rows, cols = np.meshgrid(
            *(np.arange(n) + 0.5 for n in size), indexing="ij"
        )  # fmt: skip
        place = prepared.geometry.input_to_original(rows, cols)
        expected = np.floor(np.stack(place)).astype(int)
        padded = told[0] < 0
        off = (expected < 0) | (expected >= np.array([height, width]).reshape(2, 1, 1))
        assert np.array_equal(padded, off.any(axis=0))
        assert np.array_equal(told[:, ~padded], expected[:, ~padded])


# What else it does ----------------------------------------------------------------------------


def test_the_input_is_that_of_the_library_itself() -> None:
    real = create_transform((3, 48, 80), crop_pct=0.9, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    pixels = np.random.default_rng(0).integers(0, 256, (90, 141, 3), np.uint8)
    prepared = Preprocessing.from_transform(real)(Image(pixels))
    assert prepared.tensor.dtype == torch.float32
    assert torch.equal(prepared.tensor, real(PillowImage.fromarray(pixels)))


def test_the_photo_is_left_alone() -> None:
    image = photo(Size(90, 141), 20, 30)
    kept = image.pixels.copy()
    prepared = Preprocessing.from_transform(create_transform((3, 48, 48)))(image)
    prepared.tensor.zero_()
    assert prepared.image is image
    assert np.array_equal(image.pixels, kept)


def test_an_input_can_be_turned_back_into_a_picture() -> None:
    real = create_transform((3, 40, 60), crop_pct=1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    prepare = Preprocessing.from_transform(real)
    assert np.array_equal(prepare.photograph(prepare(Image(pixels)).tensor).pixels, pixels)


def test_a_single_step_and_a_pipeline_without_normalisation_are_read() -> None:
    prepare = Preprocessing.from_transform(transforms.ToTensor())
    image = index_image(Size(30, 50))
    assert prepare(image).geometry == Geometry.plain(Size(30, 50))
    assert np.array_equal(prepare.photograph(prepare(image).tensor).pixels, image.pixels)


@pytest.mark.parametrize(
    "step",
    [
        transforms.RandomResizedCrop(32),
        transforms.RandomHorizontalFlip(),
        transforms.Pad(3),
        transforms.RandomRotation(10),
    ],
)
def test_a_step_that_cannot_be_traced_is_refused_by_name(step: Any) -> None:
    with pytest.raises(ModelError, match=type(step).__name__):
        Preprocessing.from_transform(transforms.Compose([step, transforms.ToTensor()]))


def test_naflex_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot be traced"):
        Preprocessing.from_transform(create_transform((3, 64, 64), naflex=True))


@pytest.mark.parametrize("first", [transforms.ToTensor(), transforms.Resize(60)])
def test_steps_on_tensors_count_like_steps_on_pictures(first: Any) -> None:
    steps = [transforms.Resize(48, antialias=True), transforms.CenterCrop(48)]
    order = [first, *steps]
    if not isinstance(first, transforms.ToTensor):
        order.append(transforms.ToTensor())
    prepare = Preprocessing.from_transform(transforms.Compose(order))
    for row, col in [(10, 40), (70, 90), (45, 60)]:
        prepared = prepare(photo(Size(90, 141), row, col))
        assert brightest(prepared) == pytest.approx((row + DOT / 2, col + DOT / 2), abs=0.75)


def test_a_pipeline_that_ends_in_no_tensor_is_refused() -> None:
    with pytest.raises(ModelError, match=r"(?i)tensor"):
        Preprocessing.from_transform(transforms.Resize(32))(index_image(Size(30, 50)))


def test_the_steps_can_be_read_in_words() -> None:
    words = Preprocessing.from_transform(create_transform((3, 48, 80))).describe()
    assert [line.split("(")[0] for line in words] == [
        "ResizeKeepRatio", "CenterCrop", "MaybeToTensor", "Normalize"
    ]  # fmt: skip
    assert all("\n" not in line for line in words)


def test_resizing_alone_is_traced() -> None:
    prepare = Preprocessing.from_transform(
        transforms.Compose([ResizeKeepRatio((45, 45), longest=1.0), transforms.ToTensor()])
    )
    chain = prepare(index_image(Size(90, 141))).geometry
    assert chain.input == Size(29, 45)
    assert chain.visible_fraction == pytest.approx(1)
    assert chain.input_to_original.scale == pytest.approx((90 / 29, 141 / 45))
