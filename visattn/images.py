"""Photographs: upright RGB pixels with the name and hash of the file they came from."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, UnidentifiedImageError
from PIL import Image as PillowImage

from visattn.errors import ImageError

Pixels = npt.NDArray[np.uint8]

SUFFIXES = frozenset(
    [
        ".avif",
        ".bmp",
        ".gif",
        ".heic",
        ".heif",
        ".jfif",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
TURNS = PillowImage.Transpose
UPRIGHT = {
    2: TURNS.FLIP_LEFT_RIGHT,
    3: TURNS.ROTATE_180,
    4: TURNS.FLIP_TOP_BOTTOM,
    5: TURNS.TRANSPOSE,
    6: TURNS.ROTATE_270,
    7: TURNS.TRANSVERSE,
    8: TURNS.ROTATE_90,
}


class Size(NamedTuple):
    """Height and width, always in this order and by name."""

    height: int
    width: int


@dataclass(frozen=True, eq=False)
class Image:
    """An upright photograph.

    Attributes:
        pixels: uint8 (height, width, 3), RGB, EXIF orientation applied.
        path: the file, or None for pixels that were handed over in memory.
        sha256: hash of the file's bytes, or of the pixels where there is no file.
        notes: what loading had to decide (first frame taken, transparency flattened, ...).
    """

    pixels: Pixels
    path: Path | None = None
    sha256: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
            raise ImageError(
                f"An image is a uint8 array (height, width, 3) in RGB; this one is {dtype} {shape}."
            )
        if not self.sha256:
            digest = hashlib.sha256(repr(shape).encode() + self.pixels.tobytes()).hexdigest()
            object.__setattr__(self, "sha256", digest)

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return Size(self.pixels.shape[0], self.pixels.shape[1])

    def pillow(self) -> PillowImage.Image:
        """Return a Pillow copy, mode RGB."""
        return PillowImage.fromarray(self.pixels)


def load_image(source: Any) -> Image:
    """Return an upright RGB image from a path, a Pillow image or a uint8 array (H, W, 3).

    EXIF orientation is applied; transparency is laid on white; 16-bit files are scaled to 8 bits;
    of an animation the first frame is taken, and a note says so. Raises `ImageError` naming the
    file when it is missing, empty, truncated, not an image, or larger than Pillow's
    decompression-bomb limit.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _from_file(Path(source))
    if isinstance(source, PillowImage.Image):
        pixels, notes = _upright_rgb(source, "the Pillow image")
        return Image(pixels, notes=notes)
    if isinstance(source, np.ndarray):
        return Image(np.array(source))
    raise ImageError(
        f"{type(source).__name__} is not an image: give a path, a Pillow image or a uint8 array "
        "(height, width, 3)."
    )


def find_images(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """Return every image file below ``folder``, sorted by relative path; hidden ones are left out.

    Files count by their suffix, in lower case, whatever they contain: a broken photo must be
    reported, not passed over. Raises `ImageError` when ``folder`` is not a folder.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is not a folder.")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and (path.is_file() or path.is_symlink())
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _from_file(path: Path) -> Image:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if not data:
        raise ImageError(f"{path}: the file is empty.")
    try:
        with PillowImage.open(io.BytesIO(data)) as opened:
            pixels, notes = _upright_rgb(opened, str(path))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not an image in a format that Pillow reads.") from error
    except PillowImage.DecompressionBombError as error:
        raise ImageError(f"{path}: too large ({error}).") from error
    except Exception as error:  # codecs raise anything on damaged bytes
        raise ImageError(f"{path}: truncated or damaged ({error}).") from error
    return Image(pixels, path, hashlib.sha256(data).hexdigest(), notes)


def _upright_rgb(picture: PillowImage.Image, name: str) -> tuple[Pixels, tuple[str, ...]]:
    notes = []
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames")
        picture.seek(0)
    upright = _upright(picture)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        return _eight_bit(upright, name), (*notes, "16 bits scaled to 8")
    if upright.has_transparency_data:
        notes.append("transparency laid on white")
        upright = upright.convert("RGBA")
        white = PillowImage.new("RGBA", upright.size, "white")
        upright = PillowImage.alpha_composite(white, upright)
    return np.asarray(upright.convert("RGB")).copy(), tuple(notes)


def _upright(picture: PillowImage.Image) -> PillowImage.Image:
    """Apply the EXIF orientation; Pillow's own function fails on malformed tags beside it."""
    turn = UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    return picture if turn is None else picture.transpose(turn)


def _eight_bit(picture: PillowImage.Image, name: str) -> Pixels:
    values = np.asarray(picture).astype(np.float64)
    if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ImageError(
            f"{name}: mode {picture.mode} with values {values.min():g} to {values.max():g} has no "
            "defined brightness; save it with 8 or 16 bits per channel."
        )
    grey = np.rint(values / 257.0).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
