"""Render: draw a stored gallery again, from its maps, without the model."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from visattn.errors import ConfigError, VisattnError
from visattn.gallery.clip_drawing import Studio, redraw_clip
from visattn.gallery.drawing import (
    PHOTO_SIDE,
    at_size,
    draw_pictures,
    fit,
    gallery_style,
    reduced,
    statistics_of,
)
from visattn.gallery.frames import Footage
from visattn.gallery.manifest import OK, Entry
from visattn.gallery.page import write_page
from visattn.gallery.plan import sha256
from visattn.gallery.record import CUT, Record, read_record, write_record
from visattn.gallery.saliency_clip import SaliencyClip
from visattn.gallery.selection import named
from visattn.gallery.store import Store, writing
from visattn.images import Image, Size, load_image

if TYPE_CHECKING:
    from visattn.overlay import Style
    from visattn.saliency import SaliencyMap

OWN, SHARED = SCALES = ("own", "shared")
FIXING = ("limits", "normalization")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Rendering:
    """How drawing a gallery again ended.

    Attributes:
        drawn: maps that were drawn.
        copies: photos drawn over the gallery's own reduced copy, because the original is gone or
            another one than the map belongs to.
        failures: by image, model and method, why a map was left as it was.
        index: the page to open.
    """

    drawn: int
    copies: tuple[str, ...]
    failures: Mapping[tuple[str, str, str], str]
    index: Path

    @property
    def exit_code(self) -> int:
        """0 when every map was drawn, else 1."""
        return 1 if self.failures else 0


def render_gallery(
    out: Path,
    style: Mapping[str, Any] | None = None,
    *,
    models: Sequence[str] = (),
    methods: Sequence[str] = (),
    scale: str | None = None,
    smoothing: float | None = None,
    photos: Path | None = None,
    workers: int | None = None,
) -> Rendering:
    """Draw the overlays, heat layers and page of the gallery in ``out`` again.

    ``style`` changes fields of `visattn.overlay.Style` and leaves the others as they were drawn.
    ``models`` and ``methods`` choose which maps are drawn and stand on the page; the files of the
    others stay, and drawing all brings them back. ``scale``: ``shared`` puts all photos of one
    model and method on one scale of raw values, ``own`` gives each map its own again, None leaves
    it; the frames of a clip have one in any case. ``smoothing`` is the seconds over which the maps
    of all clips are averaged, 0 for not, None as they were drawn. ``photos`` is the folder of the
    original photos, where it is no longer the one in run.json; a photo that is not there is drawn
    from the gallery's copy, at most 1280 pixels, and a clip that is not there is left as it was.

    Raises `ConfigError`, with nothing written, where ``out`` is no gallery, where a name is not in
    it, and for a wrong style, scale or smoothing. A drawing that was cut off is completed by
    another one.
    """
    store = Store(out)
    if not store.run.is_file():
        raise ConfigError(
            f"{out} is no gallery (there is no run.json); 'visattn gallery' makes one."
        )
    with store.lock():
        record, entries = read_record(store.run), store.manifest.read()
        chosen = named(record, entries, models, methods)
        record = _smoothed(record, entries, chosen, smoothing)
        if smoothing is None and CUT in record:  # some clips may have been drawn with the new one
            smoothing = record["clips"]["smoothing"]
        looks = _looks(record, store, chosen, style or {}, scale, smoothing)
        styles = {pair: gallery_style(each["style"]) for pair, each in looks.items()}
        folder = Path(record["input"]) if photos is None else photos
        if not (photos is None or photos.is_dir()):
            raise ConfigError(f"--photos {photos} is not a folder.")
        drawing = _Drawing(store, styles, folder, record["overlay_size"], smoothing)
        return drawing.work(_restyled(record, looks, style or {}), entries, chosen, workers)


@dataclass
class _Drawing:
    store: Store
    styles: Mapping[Pair, Style]
    photos: Path
    side: int
    smoothing: float | None = None
    tell: Callable[[str], None] = lambda _: None
    copies: set[str] = field(default_factory=set)
    failures: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def work(
        self, record: Record, entries: Sequence[Entry], chosen: Sequence[Entry], workers: int | None
    ) -> Rendering:
        with writing(self.store.root):
            # Until the end, pictures and manifest may tell of two styles: a gallery run must know.
            now = {entry.key[1:] for entry in chosen}
            pending = {tuple(pair) for pair in record.get(CUT, ())}
            write_record(self.store.run, {**record, CUT: sorted(pending | now)})
        drawn = {entry.key: entry for entry in self._draw_all(chosen, workers)}
        kept = [drawn.get(entry.key, entry) for entry in entries]
        shown = [drawn.get(entry.key, entry) for entry in chosen]
        with writing(self.store.root):
            self.store.manifest.rewrite(kept)
            write_page(self.store, shown, record)
            left = {CUT: sorted(pending - now)} if pending - now else {}
            write_record(self.store.run, {**_without(record, CUT), **left})
        count = len(drawn) - len(self.failures)
        return Rendering(count, tuple(sorted(self.copies)), self.failures, self.store.index)

    def _draw_all(self, chosen: Sequence[Entry], workers: int | None) -> Iterable[Entry]:
        photos: dict[str, list[Entry]] = {}
        for entry in chosen:
            if entry.status == OK:
                photos.setdefault(entry.image, []).append(entry)
        threads = workers or min(8, os.cpu_count() or 1)
        console = Console(stderr=True)
        still = [each for each in photos.values() if each[0].frames is None]
        clips = [each for each in photos.values() if each[0].frames is not None]
        bar = Progress(console=console, transient=True, disable=not console.is_terminal)
        task = bar.add_task("drawing", total=len(photos))
        self.tell = lambda words: bar.update(task, description=escape(words))
        with bar, ThreadPoolExecutor(threads, thread_name_prefix="render") as pool:
            drawn = chain(
                pool.map(self._draw_photo, still), (self._draw_clip(each, pool) for each in clips)
            )
            yield from chain.from_iterable(bar.track(drawn, task_id=task))

    def _draw_photo(self, entries: Sequence[Entry]) -> list[Entry]:
        try:
            photo = self._photo(entries[0])
        except VisattnError as error:
            self.failures |= {entry.key: str(error) for entry in entries}
            return list(entries)
        return [self._draw(entry, photo) for entry in entries]

    def _draw_clip(self, entries: Sequence[Entry], pool: ThreadPoolExecutor) -> list[Entry]:
        """Draw the maps of a clip again, one after the other, over the clip itself."""
        path = self.photos / entries[0].image
        if not path.is_file() or sha256(path) != entries[0].sha256:
            words = f"the clip {path} is gone or changed; --photos names another folder."
            self.failures |= {entry.key: words for entry in entries}
            return list(entries)
        return [self._redraw(entry, path, pool) for entry in entries]

    def _redraw(self, entry: Entry, path: Path, pool: ThreadPoolExecutor) -> Entry:
        style = self.styles[entry.model, entry.method]
        try:
            stored = self.store.root / self.store.map(entry.key)
            before = SaliencyClip.load(stored)
            clip = _as_smooth(before, self.smoothing)
            footage = Footage.of(path, entry.sha256 or "", clip.fps, len(clip))
            studio = Studio(self.store, footage, self.side, pool, self.tell)
            drawn = redraw_clip(studio, entry, clip, style)
        except VisattnError as error:
            self.failures[entry.key] = str(error)
            return entry
        if clip.smoothing != before.smoothing:
            clip.save(stored)
        return drawn

    def _photo(self, entry: Entry) -> Image:
        """Return the photo at the size it is drawn at, the original where it is still there."""
        original = self.photos / entry.image
        size = Size(entry.height or 0, entry.width or 0)
        if original.is_file() and sha256(original) == entry.sha256:
            return reduced(load_image(original), fit(size, self.side))
        self.copies.add(entry.image)
        copy = load_image(self.store.root / self.store.photo(entry.image))
        shown = reduced(copy, fit(size, min(self.side, PHOTO_SIDE)))
        return replace(shown, path=original, sha256=entry.sha256 or copy.sha256)

    def _draw(self, entry: Entry, photo: Image) -> Entry:
        style = self.styles[entry.model, entry.method]
        try:
            saliency = _load(self.store, entry)
            draw_pictures(self.store, entry.key, at_size(saliency, photo.size), photo, style)
        except VisattnError as error:
            self.failures[entry.key] = str(error)
            return entry
        return replace(entry, statistics=statistics_of(saliency, style))


def _smoothed(
    record: Record, entries: Sequence[Entry], chosen: Sequence[Entry], smoothing: float | None
) -> Record:
    """Return the record of a gallery whose clips are all averaged over ``smoothing`` seconds."""
    if smoothing is None:
        return record
    if not (math.isfinite(smoothing) and smoothing >= 0):
        raise ConfigError(f"--smoothing is a number of seconds, 0 or more, not {smoothing:g}.")
    clips = {entry.key for entry in entries if entry.frames is not None}
    if not clips:
        raise ConfigError("--smoothing is of clips, and this gallery has none.")
    if clips - {entry.key for entry in chosen}:
        raise ConfigError(
            "--smoothing is one for all clips of a gallery: leave --model and --method out."
        )
    sides = {name: {**record[name], "smoothing": smoothing} for name in ("clips", "config")}
    return {**record, **sides}


def _as_smooth(clip: SaliencyClip, smoothing: float | None) -> SaliencyClip:
    return clip if smoothing is None else replace(clip, smoothing=smoothing)


def _looks(
    record: Record,
    store: Store,
    chosen: Sequence[Entry],
    changes: Mapping[str, Any],
    scale: str | None,
    smoothing: float | None = None,
) -> dict[Pair, dict[str, Any]]:
    """Return what the record says of every model and method that is drawn: ``style``, ``own``.

    ``own`` is the normalisation that a shared scale stands in for, where there is one.
    """
    if scale not in (None, *SCALES):
        raise ConfigError(f"--scale is {' or '.join(SCALES)}, not {scale!r}.")
    if scale == SHARED and "limits" in changes:
        raise ConfigError("--scale shared and -S limits both fix the scale; give one of them.")
    found: dict[Pair, dict[str, Any]] = {}
    for pair in dict.fromkeys(entry.key[1:] for entry in chosen):
        known = record["models"][pair[0]]["methods"].get(pair[1], {})
        # A shared scale is one of maps as they are drawn: other smoothing, another scale.
        again = smoothing is not None and scale is None and "own" in known and not _fixes(changes)
        wanted = SHARED if again else scale
        options = _changed(known, changes, wanted)
        own = known.get("own") if wanted is None and not _fixes(changes) else None
        if wanted == SHARED:
            own = {name: value for name, value in options.items() if name == "normalization"}
            maps = _all_maps(store, [e for e in chosen if e.key[1:] == pair], smoothing)
            options = _on_one_scale(options, maps)
        found[pair] = {"style": options, **({} if own is None else {"own": own})}
    return found


def _changed(
    known: Mapping[str, Any], changes: Mapping[str, Any], scale: str | None
) -> dict[str, Any]:
    before = dict(known.get("style", {}))
    if scale is not None:
        before = {**_without(before, "limits"), **(known.get("own") or {})}
    return {**(_without(before, *FIXING) if _fixes(changes) else before), **changes}


def _fixes(changes: Mapping[str, Any]) -> bool:
    return any(name in changes for name in FIXING)


def _without(mapping: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name not in names}


def _on_one_scale(options: Mapping[str, Any], maps: Sequence[SaliencyMap]) -> dict[str, Any]:
    from visattn.overlay.scale import shared_limits

    alive = [each for each in maps if each.no_signal is None]
    others = _without(options, "normalization")
    if not alive:  # nothing will be drawn, on whatever scale
        return others
    return {**others, "limits": list(shared_limits(alive, options.get("normalization")))}


def _all_maps(store: Store, entries: Sequence[Entry], smoothing: float | None) -> list[SaliencyMap]:
    """Return the maps of photos and of all frames of clips, as they are drawn.

    A map that cannot be read has none; it is listed when its turn to be drawn comes.
    """
    found = (_maps(store, each, smoothing) for each in entries if each.status == OK)
    return [*chain.from_iterable(found)]


def _maps(store: Store, entry: Entry, smoothing: float | None) -> list[SaliencyMap]:
    try:
        if entry.frames is None:
            return [_load(store, entry)]
        clip = SaliencyClip.load(store.root / store.map(entry.key))
        return _as_smooth(clip, smoothing).maps()
    except ConfigError:
        return []


def _load(store: Store, entry: Entry) -> SaliencyMap:
    from visattn.saliency import SaliencyMap

    return SaliencyMap.load(store.root / store.map(entry.key))


def _restyled(
    record: Record, looks: Mapping[Pair, Mapping[str, Any]], changes: Mapping[str, Any]
) -> Record:
    """Return the record of the gallery as it will be drawn."""
    models = {
        name: {
            **model,
            "methods": {
                method: {**_without(each, "own"), **looks[name, method]}
                if (name, method) in looks
                else each
                for method, each in model["methods"].items()
            },
        }
        for name, model in record["models"].items()
    }
    config = {**record["config"], "style": {**record["config"]["style"], **changes}}
    return {**record, "config": config, "models": models}
