"""Films: MP4 through OpenCV, animated WebP through Pillow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from visattn.errors import VisattnError
from visattn.images import Size

CODECS = ("mp4v", "avc1", "vp09")  # mp4v plays everywhere but in browsers, and is the fastest
QUALITY = 75
RATE_ERROR = 0.01


class FilmError(VisattnError):
    """OpenCV lacks a codec, or wrote another film than it was given."""


@cache
def codec() -> str | None:
    """Return the first of `CODECS` whose film this build of OpenCV reads back, or None."""
    return next((name for name in CODECS if _works(name)), None)


def _works(name: str) -> bool:
    frames = [PillowImage.new("RGB", (64, 48), colour) for colour in ("white", "black", "white")]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        try:
            write_film(path, frames, 4.0, Size(48, 64), name)
        except FilmError:
            return False
    return True


def even(size: Size) -> Size:
    """Return the next size whose sides are even, as film codecs want them."""
    return Size(size.height + size.height % 2, size.width + size.width % 2)


def write_film(
    path: Path, frames: Iterable[PillowImage.Image], fps: float, size: Size, name: str
) -> None:
    """Write RGB frames of an even ``size`` as MP4 with the codec ``name``; they are read once.

    Raises `FilmError` where OpenCV lacks the codec, and where the film that it wrote does not
    read back with as many frames, this size and this rate.
    """
    import cv2

    four = cv2.VideoWriter.fourcc(*name)
    writer = cv2.VideoWriter(str(path.absolute()), four, fps, (size.width, size.height))
    if not writer.isOpened():
        raise FilmError(f"this build of OpenCV ({cv2.__version__}) does not write {name}")
    count = 0
    try:
        for frame in frames:
            writer.write(np.ascontiguousarray(np.asarray(frame)[:, :, ::-1]))
            count += 1
    finally:
        writer.release()
    found, wanted = _read_back(path), (count, size.width, size.height)
    if found[:3] != wanted or abs(found[3] - fps) > RATE_ERROR * fps:
        raise FilmError(
            f"a film of {count} frames of {size.width} x {size.height} at {fps:g} per second "
            f"reads back as {found[0]} of {found[1]} x {found[2]} at {found[3]:g} ({name})"
        )


def _read_back(path: Path) -> tuple[int, int, int, float]:
    import cv2

    capture = cv2.VideoCapture(str(path.absolute()))
    sides = [
        int(capture.get(each)) for each in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    ]
    rate, count = float(capture.get(cv2.CAP_PROP_FPS)), 0
    while capture.grab():
        count += 1
    capture.release()
    return count, sides[0], sides[1], rate


def write_animation(path: Path, frames: Sequence[PillowImage.Image], fps: float) -> None:
    """Write RGB frames as an animated WebP that repeats for ever; one frame as a still one."""
    ends = [round(1000 * (place + 1) / fps) for place in range(len(frames))]
    durations = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    options: dict[str, Any] = {"quality": QUALITY, "method": 2}
    if len(frames) > 1:
        options |= {"save_all": True, "append_images": frames[1:], "duration": durations, "loop": 0}
    frames[0].save(path, "WEBP", **options)
