"""Photos and masks of data sets, read from files."""

from __future__ import annotations

import io
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import ExifTags
from PIL import Image as PillowImage

from visattn.errors import ImageError
from visattn.evaluation.localization import EMPTY
from visattn.evaluation.sample import Excluded, Mask
from visattn.images import UPRIGHT, load_image
from visattn.models import Model, Prepared

UNREADABLE, UNREADABLE_MASK = "unreadable image", "unreadable mask"
OTHER_SIZE = "mask of another size"
OUTSIDE = "file name outside the folder"
PALETTE = ("P", "PA")
Values = npt.NDArray[np.int64]


def prepared(model: Model, path: Path, name: str) -> Prepared | Excluded:
    """Return a model's input for the photo in a file; unreadable ones are `Excluded`."""
    try:
        return model.prepare(load_image(path))
    except ImageError:
        return Excluded(UNREADABLE, name)


def below(folder: Path, file_name: str) -> Path | None:
    """Return a file of an annotation below its folder; None for a name that leads elsewhere."""
    parts = PurePosixPath(file_name.replace("\\", "/"))
    leads_away = parts.is_absolute() or ".." in parts.parts or "\0" in file_name
    return None if leads_away or not file_name else folder / parts


def fault(item: Prepared, mask: Mask, name: str) -> Excluded | None:
    """Return why a mask (row, col) cannot be evidence in a photo, or None."""
    if mask.shape != tuple(item.geometry.original):
        return Excluded(OTHER_SIZE, name)
    return None if mask.any() else Excluded(EMPTY, name)


def read_values(path: Path) -> Values:
    """Return the values of a mask file, (row, col), upright as its own EXIF tag says.

    Indices of a palette image, grey values, and of a colour image its largest channel; what is
    wholly transparent is 0. Fractions are rounded up, so that 0.2 is not nothing. Raises
    `ImageError` for a file that cannot be read.
    """
    try:
        with PillowImage.open(io.BytesIO(path.read_bytes())) as opened:
            turn = UPRIGHT.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
            upright = opened.copy() if turn is None else opened.transpose(turn)
            return _values(upright)
    except Exception as error:  # codecs raise anything on damaged bytes
        raise ImageError(f"{path}: no mask that can be read ({error}).") from error


def _values(picture: PillowImage.Image) -> Values:
    if picture.mode in ("RGBA", "LA"):
        *channels, alpha = (np.asarray(band) for band in picture.split())
        opaque: Values = np.max(channels, axis=0).astype(np.int64) * (alpha > 0)
        return opaque
    values = np.asarray(picture if picture.mode != "PA" else picture.getchannel("P"))
    if values.ndim == 3:
        values = values.max(axis=2)
    if values.dtype.kind == "f":
        values = np.ceil(np.nan_to_num(values))
    return values.astype(np.int64)
