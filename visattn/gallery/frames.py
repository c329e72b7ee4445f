"""Frames: what a film or an animated image shows at evenly spaced times, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from visattn.errors import ImageError
from visattn.images import Image, load_image

FILMS = frozenset([".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"])
ANIMATIONS = frozenset([".gif", ".png", ".webp"])
UNTIMED = 0.1  # seconds of a frame that an animation gives no time, as browsers show it
FASTEST = 1000.0  # frames per second; containers without a rate name their clock instead
EARLY = 1e-3  # seconds; containers round times to milliseconds
PROMISED = 0.9

Shot = tuple[float, Callable[[], Image]]


def is_clip(path: Path) -> bool:
    """Return whether a file moves: a film by its suffix, an image with more than one frame.

    An image that cannot be read does not: it is reported as a broken photo.
    """
    suffix = path.suffix.lower()
    if suffix in FILMS:
        return True
    if suffix not in ANIMATIONS:
        return False
    try:
        with PillowImage.open(path) as opened:
            return bool(getattr(opened, "is_animated", False))
    except Exception:  # noqa: BLE001 - codecs raise anything on damaged bytes
        return False


@dataclass(frozen=True)
class Frame:
    """One frame: its upright pixels, and its time in seconds from the beginning."""

    image: Image
    time: float


@dataclass(eq=False)
class Footage:
    """A clip that is read at evenly spaced times; each reading begins anew.

    Attributes:
        path: film or animated image.
        sha256: hash of its bytes; every frame carries it.
        fps: frames per second that are read: what was asked for, or the clip's own rate where that
            is lower.
        limit: most frames that are read.
        remarks: what the last reading had to decide (cut at the limit, ended early, ...).
    """

    path: Path
    sha256: str
    fps: float
    limit: int
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, sha256: str, fps: float, limit: int) -> Footage:
        """Open a clip to learn its rate; raises `ImageError` where nothing can be read."""
        own = _film_rate(path) if path.suffix.lower() in FILMS else 1 / min(_durations(path))
        return cls(path, sha256, min(fps, own or fps), limit)

    def frames(self) -> Iterator[Frame]:
        """Yield what the clip shows at the times 0, 1 / fps, 2 / fps, ... seconds.

        That is the last frame that began by then, so that in a clip of variable rate a long frame
        is seen several times and time runs evenly. One frame is in memory. Raises `ImageError`
        where no frame can be read, and where frames differ in size.
        """
        self.remarks.clear()
        count, size, images = 0, None, self._sampled()
        for count, image in enumerate(images, start=1):
            if count > self.limit:
                self.remarks.append(
                    f"only the first {self.limit} frames ({self.limit / self.fps:.4g} s) of the "
                    "clip are here; --max-frames raises that"
                )
                break
            size = size or image.size
            if image.size != size:
                raise _unreadable(self.path, f"a frame of {image.size} follows one of {size}")
            self.remarks += [note for note in image.notes if note not in self.remarks]
            yield Frame(image, (count - 1) / self.fps)
        if not count:
            raise _unreadable(self.path, "no frame can be read")

    def _sampled(self) -> Iterator[Image]:
        film = self.path.suffix.lower() in FILMS
        due, shown, start = 0, None, None
        for time, look in self._film() if film else self._animation():
            start = time if start is None else start
            while shown and due / self.fps < time - start - EARLY:
                yield shown()
                due += 1
            shown = look
        # The last shot is an end without a picture; where reading broke off it is the last frame.
        if due == 0 and shown:
            yield shown()

    def _film(self) -> Iterator[Shot]:
        import cv2

        capture = _capture(self.path)
        rate, promised = _rate(capture) or self.fps, capture.get(cv2.CAP_PROP_FRAME_COUNT)
        time, count, pixels = -1 / rate, 0, None
        try:
            while capture.grab():
                stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                time = stamp if count == 0 or stamp > time else time + 1 / rate
                good, pixels = capture.retrieve()
                if not good:
                    break
                count += 1
                yield time, _still(pixels, self.path, self.sha256)
        finally:
            capture.release()
        if count < PROMISED * promised and time < PROMISED * promised / rate:
            self.remarks.append(
                f"the file is cut off or damaged: {count} of about {promised:.0f} frames can be "
                "read"
            )
        if pixels is not None and count:
            yield time + 1 / rate, _still(pixels, self.path, self.sha256)

    def _animation(self) -> Iterator[Shot]:
        time, look = 0.0, None
        for picture, duration in _pictures(self.path):
            look = _laid_flat(picture.copy(), self.path, self.sha256)
            yield time, look
            time += duration
        if look:
            yield time, look


def _still(pixels: Any, path: Path, sha256: str) -> Callable[[], Image]:
    """Return a view of pixels in OpenCV's order, turned into an image when it is wanted."""
    return lambda: Image(np.ascontiguousarray(pixels[:, :, 2::-1]), path, sha256)


def _laid_flat(picture: PillowImage.Image, path: Path, sha256: str) -> Callable[[], Image]:
    def look() -> Image:
        flat = load_image(picture)
        return Image(flat.pixels, path, sha256, flat.notes)

    return look


def _film_rate(path: Path) -> float | None:
    capture = _capture(path)
    try:
        return _rate(capture)
    finally:
        capture.release()


def _rate(capture: Any) -> float | None:
    import cv2

    rate = float(capture.get(cv2.CAP_PROP_FPS))
    return rate if math.isfinite(rate) and 0 < rate < FASTEST else None


def _capture(path: Path) -> Any:
    """Return the opened film, turned upright as its rotation says."""
    import cv2

    if path.is_file() and path.stat().st_size == 0:
        raise _unreadable(path, "the file is empty")
    try:
        # An absolute path, because FFmpeg takes what stands before a colon for a protocol.
        capture = cv2.VideoCapture(str(path.absolute()))
    except (cv2.error, UnicodeError) as error:
        raise _unreadable(path, str(error)) from error
    if not capture.isOpened():
        raise _unreadable(path, "not a film that this build of OpenCV can read, or damaged")
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
    return capture


def _durations(path: Path) -> list[float]:
    return [duration for _, duration in _pictures(path)]


def _pictures(path: Path) -> Iterator[tuple[PillowImage.Image, float]]:
    """Yield every frame of an animation, as laid on those before it, with its seconds."""
    try:
        with PillowImage.open(path) as opened:
            # The still picture of a PNG for programs that know no animation is not a part of it.
            first = 1 if opened.info.get("default_image") else 0
            for place in range(first, getattr(opened, "n_frames", 1)):
                opened.seek(place)
                opened.load()
                yield opened, float(opened.info.get("duration") or 0) / 1000 or UNTIMED
    except ImageError:
        raise
    except Exception as error:  # codecs raise anything on damaged bytes
        raise _unreadable(path, f"truncated or damaged: {error}") from error


def _unreadable(path: Path, why: str) -> ImageError:
    return ImageError(f"{path}: {why}.")
