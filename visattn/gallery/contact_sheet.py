"""Contact sheet: many maps small on pages that print."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image as PillowImage
from PIL import ImageDraw

from visattn.atomic import atomic_path
from visattn.errors import ConfigError
from visattn.gallery.drawing import at_size, fit, reduced
from visattn.gallery.manifest import Entry
from visattn.gallery.store import Store
from visattn.images import Size, load_image
from visattn.saliency import SaliencyMap

if TYPE_CHECKING:
    from visattn.overlay import Style

SUFFIXES = (".pdf", ".png")
DPI = 200
PAGE = Size(2339, 1654)  # A4 upright
MARGIN, GAP, COLUMNS, MOST = 90, 28, 4, 6
LETTERS, LEADING = 20, 27
LINES, TALL = 3, 1.5
TALLEST = 60_000


@dataclass(frozen=True)
class Row:
    """Pictures of one width in pixels, each with its lines of text."""

    width: int
    cells: tuple[tuple[PillowImage.Image, tuple[str, ...]], ...]


def write_sheet(
    store: Store, entries: Sequence[Entry], styles: Mapping[tuple[str, str], Style], path: Path
) -> None:
    """Write maps over their photos: A4 pages as PDF, or one tall picture as PNG.

    Where every photo has the same number of maps, two to six, each has a row; else four stand in a
    row. Below each stand file, method and model, and class with probability. Photos are the
    gallery's own copies; each map has its own scale unless the gallery was drawn on one. The same
    maps give the same bytes. Raises `ConfigError` for a picture that would be taller than 60,000
    pixels.
    """
    tall = path.suffix.lower() == ".png"
    limit = TALLEST if tall else PAGE.height - 2 * MARGIN
    pages = _pages(map(_drawn, _rows(store, entries, styles)), limit)
    first = next(pages)
    with atomic_path(path) as temporary:
        if not tall:
            moment = time.gmtime(0)
            facts = {"creationDate": moment, "modDate": moment, "title": "contact sheet"}
            first.save(
                temporary, "PDF", resolution=DPI, save_all=True, append_images=pages, **facts
            )
        elif next(pages, None) is None:
            first.save(temporary, "PNG", dpi=(DPI, DPI))
        else:
            raise ConfigError(
                f"{len(entries)} maps are taller than {TALLEST} pixels: write a .pdf."
            )


def _rows(
    store: Store, entries: Sequence[Entry], styles: Mapping[tuple[str, str], Style]
) -> Iterator[Row]:
    counts = set(Counter(entry.image for entry in entries).values())
    (columns, *others) = counts
    columns = columns if not others and 2 <= columns <= MOST else COLUMNS
    width = (PAGE.width - 2 * MARGIN - (columns - 1) * GAP) // columns
    ordered = iter(sorted(entries, key=_first_places(entries)) if columns in counts else entries)
    while some := tuple(islice(ordered, columns)):
        cells = ((_picture(store, e, styles[e.key[1:]], width), _words(e)) for e in some)
        yield Row(width, tuple(cells))


def _first_places(entries: Sequence[Entry]) -> Callable[[Entry], int]:
    places: dict[str, int] = {}
    for entry in entries:
        places.setdefault(entry.image, len(places))
    return lambda entry: places[entry.image]


def _picture(store: Store, entry: Entry, style: Style, width: int) -> PillowImage.Image:
    """Return a map over its photo, as wide as its column and at most half as high again."""
    from visattn.overlay import draw

    saliency = SaliencyMap.load(store.root / store.map(entry.key))
    size = Size(entry.height or 1, entry.width or 1)
    scale = min(width / size.width, TALL * width / size.height)
    photo = load_image(store.root / store.photo(entry.image))
    shown = reduced(photo, fit(size, max(1, round(scale * max(size)))))
    return draw(at_size(saliency, shown.size), shown, style)


def _words(entry: Entry) -> tuple[str, ...]:
    label = "no class" if entry.target_label is None else entry.target_label
    known = entry.target_label is not None and entry.probability is not None
    explained = f"{label} {entry.probability:.2f}" if known else label
    drawn = entry.statistics.get("method", entry.method)
    method = entry.method if drawn == entry.method else f"{entry.method} ({drawn})"
    return entry.image, f"{method} of {entry.model}", explained


def _pages(rows: Iterator[PillowImage.Image], limit: int) -> Iterator[PillowImage.Image]:
    page: list[PillowImage.Image] = []
    for row in rows:
        if page and sum(each.height + GAP for each in page) + row.height > limit:
            yield _stacked(page, limit)
            page = []
        page.append(row)
    yield _stacked(page, limit)


def _drawn(row: Row) -> PillowImage.Image:
    from visattn.overlay.text import font, printable, shorten

    height = max(picture.height for picture, _ in row.cells)
    strip = PillowImage.new("RGB", (PAGE.width, height + LINES * LEADING + 10), "white")
    pen = ImageDraw.Draw(strip)
    for place, (picture, words) in enumerate(row.cells):
        left = MARGIN + place * (row.width + GAP)
        strip.paste(picture, (left, height - picture.height))
        for line, text in enumerate(words):
            face = font(LETTERS, line == 0)
            top = height + 10 + line * LEADING
            pen.text((left, top), shorten(printable(text), face, row.width), "#1a1a1a", face)
    return strip


def _stacked(rows: Sequence[PillowImage.Image], limit: int) -> PillowImage.Image:
    used = sum(row.height + GAP for row in rows) - GAP
    height = used if limit == TALLEST else limit
    page = PillowImage.new("RGB", (PAGE.width, height + 2 * MARGIN), "white")
    top = MARGIN
    for row in rows:
        page.paste(row, (0, top))
        top += row.height + GAP
    return page
