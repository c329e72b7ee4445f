"""Photographs: upright RGB whatever the file, or an error that names it."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageFile

from visattn.errors import ImageError
from visattn.images import Image, Size, find_images, load_image

ORIENTATION = 0x0112
# EXIF: where the first stored row and the first stored column lie in the upright picture.
FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip
PEAK = (7, 22)


def upright_picture(height: int = 24, width: int = 40) -> np.ndarray:
    """A dark picture with one bright mark off the centre and a faint gradient."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, :, 1] = np.arange(height)[:, None]
    pixels[:, :, 2] = np.arange(width)
    pixels[PEAK] = 255
    return pixels


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels as a camera held this way would store them, by the words of the norm."""
    row, col = FIRST_ROW_AND_COLUMN[orientation]
    pixels = upright if row in ("top", "bottom") else upright.swapaxes(0, 1)
    if row in ("bottom", "right"):
        pixels = pixels[::-1]
    if col in ("bottom", "right"):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    picture = PillowImage.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def exif(orientation: int) -> bytes:
    tags = PillowImage.Exif()
    tags[ORIENTATION] = orientation
    return tags.tobytes()


# Orientation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", FIRST_ROW_AND_COLUMN)
def test_every_orientation_lands_upright(tmp_path: Path, orientation: int) -> None:
    pixels = upright_picture()
    path = save(tmp_path / "p.png", stored(pixels, orientation), exif=exif(orientation))
    loaded = load_image(path)
    assert loaded.size == Size(24, 40)
    assert np.array_equal(loaded.pixels, pixels)


@pytest.mark.parametrize("orientation", FIRST_ROW_AND_COLUMN)
def test_the_mark_of_a_jpeg_stays_where_it_was(tmp_path: Path, orientation: int) -> None:
    pixels = stored(upright_picture(), orientation)
    path = save(
        tmp_path / "p.jpg", pixels, exif=exif(orientation), quality=95, subsampling=0
    )  # fmt: skip
    brightness = load_image(path).pixels.sum(axis=2, dtype=int)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == PEAK


def test_an_orientation_in_memory_counts_too_and_is_not_taken_from_the_caller() -> None:
    pixels = upright_picture()
    picture = PillowImage.fromarray(stored(pixels, 6))
    picture.getexif()[ORIENTATION] = 6
    before = picture.tobytes()
    assert np.array_equal(load_image(picture).pixels, pixels)
    assert picture.tobytes() == before
    assert picture.getexif()[ORIENTATION] == 6


def test_orientation_and_16_bits_together(tmp_path: Path) -> None:
    grey = np.zeros((24, 40), np.uint16)
    grey[PEAK] = 65535
    path = save(tmp_path / "p.png", stored(grey, 8), exif=exif(8))
    loaded = load_image(path).pixels[:, :, 0]
    assert np.unravel_index(loaded.argmax(), loaded.shape) == PEAK


def test_a_malformed_tag_beside_the_orientation_does_not_cost_the_photo(tmp_path: Path) -> None:
    orientation = struct.pack(">HHI", ORIENTATION, 3, 1) + b"\0\6\0\0"
    resolution_as_text = struct.pack(">HHI", 0x011A, 2, 4) + b"abc\0"
    entries = [orientation, resolution_as_text]
    count = struct.pack(">H", len(entries))
    tags = b"Exif\0\0MM\0*\0\0\0\x08" + count + b"".join(entries) + b"\0\0\0\0"
    path = save(
        tmp_path / "p.jpg", stored(upright_picture(), 6), exif=tags, quality=95, subsampling=0
    )
    loaded = load_image(path)
    assert loaded.size == Size(24, 40)
    brightness = loaded.pixels.sum(axis=2, dtype=int)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == PEAK


# Modes ------------------------------------------------------------------------------------------


def assert_uniform(image: Image, colour: tuple[int, int, int], tolerance: int = 0) -> None:
    assert image.pixels.dtype == np.uint8
    difference = np.abs(image.pixels.astype(int) - np.array(colour))
    assert difference.max() <= tolerance, f"{image.pixels[0, 0]} is not {colour}"


def flat(mode: str, colour: Any, size: tuple[int, int] = (6, 4)) -> PillowImage.Image:
    return PillowImage.new(mode, size, colour)


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [
        ("L", 90, "png", (90, 90, 90)),
        ("LA", (0, 255), "png", (0, 0, 0)),
        ("LA", (0, 0), "png", (255, 255, 255)),
        ("LA", (0, 51), "png", (204, 204, 204)),
        ("RGBA", (255, 0, 0, 255), "png", (255, 0, 0)),
        ("RGBA", (255, 0, 0, 0), "png", (255, 255, 255)),
        ("RGBA", (255, 0, 0, 51), "png", (255, 204, 204)),
        ("RGBA", (0, 0, 0, 204), "webp", (51, 51, 51)),
        ("CMYK", (0, 255, 255, 0), "tif", (255, 0, 0)),
        ("CMYK", (255, 0, 255, 0), "jpg", (0, 255, 0)),
        ("1", 1, "png", (255, 255, 255)),
        ("1", 0, "png", (0, 0, 0)),
        ("I;16", 0, "png", (0, 0, 0)),
        ("I;16", 32896, "png", (128, 128, 128)),
        ("I;16", 65535, "png", (255, 255, 255)),
        ("I;16", 257 * 200, "tif", (200, 200, 200)),
        ("I;16B", 257 * 200, "tif", (200, 200, 200)),
        ("YCbCr", (255, 128, 128), "jpg", (255, 255, 255)),
        ("RGB", (10, 20, 30), "bmp", (10, 20, 30)),
        ("RGB", (10, 20, 30), "ppm", (10, 20, 30)),
    ],
)
def test_modes(
    tmp_path: Path, mode: str, colour: Any, suffix: str, expected: tuple[int, int, int]
) -> None:
    path = tmp_path / f"p.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    flat(mode, colour).save(path, **options)
    loaded = load_image(path)
    assert loaded.size == Size(4, 6)
    assert_uniform(loaded, expected, tolerance=2 if suffix == "jpg" else 1)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    picture = PillowImage.new("P", (6, 4), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    picture.save(tmp_path / "p.png")
    loaded = load_image(tmp_path / "p.png")
    assert_uniform(loaded, (10, 200, 30))
    assert loaded.notes == ()


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_a_transparent_palette_entry_becomes_white(tmp_path: Path, suffix: str) -> None:
    picture = PillowImage.new("P", (6, 4), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    picture.putpixel((5, 0), 0)
    picture.save(tmp_path / f"p.{suffix}", transparency=0)
    loaded = load_image(tmp_path / f"p.{suffix}")
    assert loaded.pixels[0, 5].tolist() == [255, 255, 255]
    assert loaded.pixels[3, 0].tolist() == [10, 200, 30]
    assert loaded.notes == ("transparency laid on white",)


def test_a_transparent_colour_of_an_rgb_png_becomes_white(tmp_path: Path) -> None:
    picture = flat("RGB", (10, 200, 30))
    picture.putpixel((5, 0), (1, 2, 3))
    picture.save(tmp_path / "p.png", transparency=(1, 2, 3))
    loaded = load_image(tmp_path / "p.png")
    assert loaded.pixels[0, 5].tolist() == [255, 255, 255]
    assert loaded.pixels[3, 0].tolist() == [10, 200, 30]


def test_sixteen_bits_are_scaled_and_keep_their_order(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    loaded = load_image(save(tmp_path / "p.png", ramp))
    assert np.array_equal(loaded.pixels[:, :, 0].ravel(), np.arange(256))
    assert np.array_equal(loaded.pixels[:, :, 0], loaded.pixels[:, :, 2])
    assert loaded.notes == ("16 bits scaled to 8",)


def test_sixteen_bit_colour_is_scaled(tmp_path: Path) -> None:
    blue_green_red = np.full((4, 6, 3), (257 * 30, 257 * 20, 257 * 10), np.uint16)
    cv2.imwrite(str(tmp_path / "p.png"), blue_green_red)
    assert_uniform(load_image(tmp_path / "p.png"), (10, 20, 30))


@pytest.mark.parametrize(
    "values", [np.full((4, 6), 0.5, np.float32), np.full((4, 6), 70000, np.int32)]
)
def test_values_without_a_defined_brightness_are_refused(tmp_path: Path, values: Any) -> None:
    path = save(tmp_path / "depth.tif", values)
    with pytest.raises(ImageError, match=r"depth\.tif: mode [IF] with values .* no defined bright"):
        load_image(path)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [flat("RGB", colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    path = tmp_path / f"p.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    loaded = load_image(path)
    assert_uniform(loaded, (255, 0, 0))
    assert loaded.notes == ("first of 3 frames",)


def test_a_picture_in_memory_gives_its_first_frame_too(tmp_path: Path) -> None:
    frames = [flat("RGB", colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:])
    with PillowImage.open(tmp_path / "p.gif") as opened:
        opened.seek(2)
        assert_uniform(load_image(opened), (255, 0, 0))


# What a loaded image knows --------------------------------------------------------------------


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "p.png", upright_picture())
    loaded = load_image(str(path))
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.path == path


def test_pixels_in_memory_have_a_hash_that_sees_shape_and_values() -> None:
    one = load_image(np.zeros((4, 6, 3), np.uint8))
    assert one.path is None
    assert one.sha256 == load_image(np.zeros((4, 6, 3), np.uint8)).sha256
    assert one.sha256 != load_image(np.zeros((6, 4, 3), np.uint8)).sha256
    changed = np.zeros((4, 6, 3), np.uint8)
    changed[3, 5, 2] = 1
    assert one.sha256 != load_image(changed).sha256


def test_arrays_are_copied_and_left_alone() -> None:
    pixels = upright_picture()
    kept = pixels.copy()
    loaded = load_image(pixels)
    loaded.pixels[:] = 0
    assert np.array_equal(pixels, kept)


def test_pillow_images_are_left_alone() -> None:
    for picture in (flat("RGBA", (255, 0, 0, 51)), flat("P", 3), flat("RGB", "red")):
        before = picture.mode, picture.tobytes()
        load_image(picture).pixels[:] = 7
        assert (picture.mode, picture.tobytes()) == before


def test_an_image_passes_through_and_goes_back_to_pillow() -> None:
    image = load_image(upright_picture())
    assert load_image(image) is image
    assert np.array_equal(np.asarray(image.pillow()), image.pixels)
    assert image.pillow().mode == "RGB"
    assert image.size == (24, 40)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 6, 3), np.float32),
        np.zeros((4, 6), np.uint8),
        np.zeros((4, 6, 4), np.uint8),
        np.zeros((3, 4, 6), np.uint8),
        np.zeros((0, 6, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused_with_what_they_are(wrong: np.ndarray) -> None:
    with pytest.raises(ImageError, match=str(wrong.dtype)) as caught:
        load_image(wrong)
    assert str(wrong.shape) in str(caught.value)


@pytest.mark.parametrize("wrong", [None, 3, {"path": "x"}])
def test_what_is_no_image_at_all_is_refused(wrong: Any) -> None:
    with pytest.raises(ImageError, match=type(wrong).__name__):
        load_image(wrong)


# Broken files ---------------------------------------------------------------------------------


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        load_image(path)
    assert str(path) in str(caught.value)


def noise(path: Path, **options: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    return save(path, pixels, **options)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = noise(tmp_path / f"cut.{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert_refused(path, "truncated or damaged|not an image")


def test_a_damaged_png_is_refused(tmp_path: Path) -> None:
    path = noise(tmp_path / "p.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert_refused(path, "truncated or damaged")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jpg").touch()
    assert_refused(tmp_path / "p.jpg", "empty")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "p.jpg", "No such file")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path, "cannot be read")


def test_text_called_jpg_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jpg").write_text("once upon a time")
    assert_refused(tmp_path / "p.jpg", "not an image")


def test_a_picture_with_a_wrong_suffix_is_read_by_its_content(tmp_path: Path) -> None:
    save(tmp_path / "p.png", upright_picture())
    (tmp_path / "p.png").rename(tmp_path / "p.jpg")
    assert np.array_equal(load_image(tmp_path / "p.jpg").pixels, upright_picture())


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "bomb.png", np.zeros((50, 50, 3), np.uint8))
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 1000)
    assert_refused(path, "too large")


def test_a_declared_size_alone_is_enough_to_refuse_a_bomb(tmp_path: Path) -> None:
    path = save(tmp_path / "bomb.png", np.zeros((1, 1, 3), np.uint8))
    data = bytearray(path.read_bytes())
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    assert_refused(path, "too large")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif"])
def test_whatever_the_bytes_are_the_answer_is_an_image_or_an_image_error(
    tmp_path: Path, suffix: str
) -> None:
    generator = np.random.default_rng(len(suffix) + ord(suffix[0]))
    tags = PillowImage.Exif()
    tags.update({ORIENTATION: 6, 0x010F: "maker", 0x0110: "model"})
    path = tmp_path / f"p.{suffix}"
    options = {} if suffix in ("gif", "bmp") else {"exif": tags.tobytes()}
    data = save(path, upright_picture(), **options).read_bytes()
    refused = 0
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(generator.choice((1, 2, 6))):
            broken[generator.integers(min(len(broken), 200))] = generator.integers(256)
        path.write_bytes(broken)
        try:
            load_image(path)
        except ImageError as error:
            assert str(path) in str(error)  # noqa: PT017  both outcomes are right
            refused += 1
    assert 0 < refused < 150


@pytest.mark.parametrize("error", [TypeError, IndexError, ZeroDivisionError, OverflowError])
def test_a_codec_that_stumbles_is_an_image_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    path = save(tmp_path / "p.png", upright_picture())

    def stumble(*_: Any) -> None:
        raise error("inside the codec")

    monkeypatch.setattr(ImageFile.ImageFile, "load", stumble)
    assert_refused(path, "inside the codec")


# Folders --------------------------------------------------------------------------------------


def test_find_images_is_recursive_sorted_and_skips_hidden_files(tmp_path: Path) -> None:
    wanted = ["a/z.png", "a-b.jpg", "b/c/d.JPEG", "B.webp", "broken.gif"]
    others = ["notes.txt", ".hidden.jpg", ".cache/x.jpg", "b/.visattn-x/y.png", "noext"]
    for name in [*wanted, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == sorted(wanted)


def test_a_hidden_folder_may_be_asked_for_by_name(tmp_path: Path) -> None:
    folder = tmp_path / ".photos"
    folder.mkdir()
    (folder / "a.jpg").touch()
    assert find_images(folder) == [folder / "a.jpg"]


def test_an_empty_folder_has_no_images(tmp_path: Path) -> None:
    assert find_images(tmp_path) == []


def test_find_images_refuses_what_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    for path in (tmp_path / "a.jpg", tmp_path / "missing"):
        with pytest.raises(ImageError, match=rf"{path.name} is not a folder"):
            find_images(path)
