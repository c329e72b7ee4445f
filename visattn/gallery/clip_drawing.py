"""Drawing of clips: film and animated pictures of one model and method, on one scale over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image as PillowImage

from visattn.atomic import atomic_path
from visattn.errors import ImageError
from visattn.gallery import film
from visattn.gallery.drawing import at_size, finite, fit, reduced, statistics_of, to_size
from visattn.gallery.frames import Footage, Frame
from visattn.gallery.manifest import OK, Entry, Key
from visattn.gallery.saliency_clip import SaliencyClip
from visattn.gallery.store import Store
from visattn.images import Size
from visattn.normalization import SYMMETRIC

if TYPE_CHECKING:
    from visattn.overlay import Scale, Style
    from visattn.saliency import SaliencyMap

PREVIEW_SIDE, TILE_SIDE, PREVIEW_FRAMES = 640, 320, 120
AT_ONCE = 8

Picture = PillowImage.Image


class Drawn(NamedTuple):
    """One frame as film, animated picture and tile show it."""

    film: Picture
    preview: Picture
    tile: Picture


@dataclass(frozen=True)
class Studio:
    """Where a clip is drawn: its files, its frames of at most ``side`` pixels, and the threads.

    ``tell`` is told in words how many frames are drawn.
    """

    store: Store
    footage: Footage
    side: int
    pool: ThreadPoolExecutor
    tell: Callable[[str], None] = lambda _: None


def draw_clip(studio: Studio, key: Key, clip: SaliencyClip, style: Style) -> Entry:
    """Write maps, film and animated pictures; return their manifest entry (``seconds`` left 0)."""
    store, footage = studio.store, studio.footage
    clip.save(store.root / store.map(key))
    size = clip.geometry.original
    entry = Entry(
        *(key[0], footage.sha256, key[1], key[2], OK),
        map=store.map(key),
        height=size.height,
        width=size.width,
        grid=(clip.grids.shape[1], clip.grids.shape[2]),
        target_index=clip.target.index if clip.target else None,
        target_label=clip.target.label if clip.target else None,
        probability=finite(clip.target.probability) if clip.target else None,
        frames=len(clip),
        fps=clip.fps,
        preview=store.preview(key),
    )
    return redraw_clip(studio, entry, clip, style)


def redraw_clip(studio: Studio, entry: Entry, clip: SaliencyClip, style: Style) -> Entry:
    """Write film and animated pictures of stored maps; return the entry as they are drawn now.

    All frames have one scale of raw values: the lowest low and highest
    high of the maps after smoothing, unless ``style`` fixes it. Raises `ImageError` where the clip
    shows other frames than the maps belong to. Animated pictures are bounded by `PREVIEW_SIDE`,
    `TILE_SIDE` and `PREVIEW_FRAMES`; a film that cannot be written is a warning.
    """
    maps, shared = on_one_scale(clip.maps(), style)
    size = fit(clip.geometry.original, studio.side)
    scale = scale_of(clip, maps, shared, style)
    canvas = _Canvas(clip, maps, shared, scale, size, studio.footage.path.name)
    overlay, remarks = _write(studio, entry.key, canvas)
    return replace(
        entry,
        overlay=overlay,
        statistics=_statistics(clip, maps, shared, scale),
        warnings=(*clip.warnings, *clip.remarks, *remarks),
    )


def on_one_scale(maps: Sequence[SaliencyMap], style: Style) -> tuple[Sequence[SaliencyMap], Style]:
    """Return maps and style such that all maps are drawn on one scale of raw values."""
    from visattn.overlay import shared_limits

    alive = [each for each in maps if each.no_signal is None]
    if style.limits is not None or not alive:
        return maps, style
    low, high = shared_limits(alive, style.normalization)
    if not low < high:
        return maps, style
    if style.normalization and style.normalization not in SYMMETRIC:
        # Asked for by name, zero need not be the middle of the scale.
        maps = [replace(each, signed=False) for each in maps]
    return maps, replace(style, limits=(low, high), normalization=None)


def scale_of(clip: SaliencyClip, maps: Sequence[SaliencyMap], shared: Style, style: Style) -> Scale:
    """Return the scale that all ``maps`` are drawn on by ``shared``, named after ``style``."""
    from visattn.overlay import Scale

    scale = Scale.of(_strongest(maps), shared)
    if style.limits is not None:
        return scale
    name = style.normalization or ("symmetric" if clip.signed else "minmax")
    return replace(scale, name=f"{name} over all frames")


def _write(studio: Studio, key: Key, canvas: _Canvas) -> tuple[str, list[str]]:
    """Write the three files of a clip; return the path of the overlay, and remarks."""
    store, footage = studio.store, studio.footage
    previews: list[Picture] = []
    tiles: list[Picture] = []
    pictures = _kept(canvas.pictures(studio), previews, tiles)
    overlay, remarks = store.film(key), []
    try:
        name = film.codec()
        if name is None:
            raise film.FilmError(f"this build of OpenCV writes none of {', '.join(film.CODECS)}")
        with atomic_path(store.root / overlay) as temporary:
            film.write_film(temporary, pictures, footage.fps, canvas.film_size, name)
    except film.FilmError as error:
        overlay = store.preview(key)
        remarks = [f"there is no MP4, only the animated WebP: {error}"]
        deque(pictures, maxlen=0)
    for path, frames in ((store.preview(key), previews), (store.tile(key), tiles)):
        with atomic_path(store.root / path) as temporary:
            film.write_animation(temporary, frames, footage.fps)
    if len(canvas.maps) > PREVIEW_FRAMES:
        remarks.append(
            f"the animated picture shows the first {PREVIEW_FRAMES} of {len(canvas.maps)} frames"
        )
    if canvas.film_size != canvas.stacked:
        remarks.append("the film has a row or column more at its end: codecs want even sizes")
    return overlay, remarks


def _kept(
    drawn: Iterator[Drawn], previews: list[Picture], tiles: list[Picture]
) -> Iterator[Picture]:
    """Yield the pictures of the film, and keep the small ones."""
    for each in drawn:
        if len(previews) < PREVIEW_FRAMES:
            previews.append(each.preview)
            tiles.append(each.tile)
        yield each.film


@dataclass
class _Canvas:
    clip: SaliencyClip
    maps: Sequence[SaliencyMap]
    style: Style
    scale: Scale
    size: Size
    name: str
    strips: list[Picture] = field(init=False)

    def __post_init__(self) -> None:
        from visattn.overlay.strip import stack

        self.strips = _strips(self)
        blank = PillowImage.new("RGB", (self.size.width, self.size.height))
        width, height = stack(blank, self.strips).size if self.strips else blank.size
        self.stacked = Size(height, width)
        self.film_size = film.even(self.stacked)
        self.bare = replace(self.style, caption=False, colorbar=False)

    def pictures(self, studio: Studio) -> Iterator[Drawn]:
        """Yield every frame drawn; at most `AT_ONCE` are in memory."""
        pairs, count = self._pairs(studio.footage), 0
        while some := list(islice(pairs, AT_ONCE)):
            yield from studio.pool.map(self._drawn, some)
            count += len(some)
            studio.tell(f"{self.name}: {count} of {len(self.maps)} frames drawn")

    def _pairs(self, footage: Footage) -> Iterator[tuple[SaliencyMap, Frame]]:
        count = 0
        for count, frame in enumerate(footage.frames(), start=1):
            if count > len(self.maps):
                break
            yield self.maps[count - 1], frame
        if count != len(self.maps):
            raise ImageError(
                f"{footage.path} shows other frames than the {len(self.maps)} that the maps "
                "belong to: it changed, or another build of OpenCV reads it."
            )

    def _drawn(self, pair: tuple[SaliencyMap, Frame]) -> Drawn:
        from visattn.overlay import draw
        from visattn.overlay.strip import stack

        saliency, frame = pair
        picture = draw(at_size(saliency, self.size), reduced(frame.image, self.size), self.bare)
        whole = stack(picture, self.strips) if self.strips else picture
        if self.film_size != self.stacked:
            padded = PillowImage.new("RGB", (self.film_size.width, self.film_size.height))
            padded.paste(whole)
            whole = padded
        preview = to_size(picture, fit(self.size, PREVIEW_SIDE))
        return Drawn(whole, preview, to_size(preview, fit(self.size, TILE_SIDE)))


def _strips(canvas: _Canvas) -> list[Picture]:
    """Return colour bar and caption of the whole clip, the same below every frame."""
    from visattn.overlay.colorbar import colorbar
    from visattn.overlay.strip import Sheet

    style, scale, strongest = canvas.style, canvas.scale, _strongest(canvas.maps)
    sheet = Sheet.of(canvas.size, style)
    strips = []
    if style.colorbar and not strongest.no_signal and not scale.empty:
        values = np.concatenate([each.grid for each in canvas.maps if not each.no_signal])
        strips.append(colorbar(scale, values, style.opacity, sheet))
    return [*strips, _caption(canvas, strongest)] if style.caption else strips


def _caption(canvas: _Canvas, strongest: SaliencyMap) -> Picture:
    from visattn.overlay import caption
    from visattn.overlay.strip import Line, Sheet, text_strip
    from visattn.overlay.text import printable, shorten, wrap

    clip, style, sheet = canvas.clip, canvas.style, Sheet.of(canvas.size, canvas.style)
    told = replace(strongest, warnings=clip.warnings)
    times = f"{len(clip)} frames, {clip.fps:.4g} per second, on one scale"
    if clip.smoothing:
        times += f"; maps smoothed over {clip.smoothing:g} s"
    name = shorten(printable(canvas.name), sheet.face(bold=True), sheet.room)
    plain = (caption.title(told), caption.explained(told), times)
    pale = (*clip.remarks, *caption.notes(told, style, canvas.scale))
    texts = [*((text, False) for text in plain), *((text, True) for text in pale)]
    lines = [Line(name, bold=True)]
    for text, is_pale in texts:
        parts = wrap(printable(text), sheet.face(), sheet.room)
        lines += [Line(part, pale=is_pale) for part in parts]
    return text_strip(lines, sheet)


def _strongest(maps: Sequence[SaliencyMap]) -> SaliencyMap:
    """Return the map with the largest magnitude, which stands for all where one must."""
    alive = [each for each in maps if not each.no_signal]
    return max(alive or maps[:1], key=lambda each: float(np.abs(each.grid).max()))


def _statistics(
    clip: SaliencyClip, maps: Sequence[SaliencyMap], shared: Style, scale: Scale
) -> dict[str, Any]:
    strongest = replace(_strongest(maps), statistics=clip.statistics)
    found = statistics_of(strongest, shared)
    alive = [each.grid for each in maps if not each.no_signal] or [maps[0].grid]
    return {
        **found,
        "minimum": finite(float(np.min(alive))),
        "maximum": finite(float(np.max(alive))),
        "normalization": scale.name,
        "no_signal": clip.no_signal,
    }
