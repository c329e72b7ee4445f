"""Figures of panels: maps in rows and columns, with labels, letters and colour bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from visattn.errors import ConfigError
from visattn.figures import bars as colour_bars
from visattn.figures.arrangement import listed
from visattn.figures.design import Design
from visattn.figures.facts import Labels, Maps
from visattn.figures.grid import PAD, Grid, Layout, Place, Words, stacked
from visattn.figures.panel import Panel, paint
from visattn.figures.paper import PAPER
from visattn.figures.shared_scale import ColourBar, Scaling, number
from visattn.figures.typesetting import leading, wrap
from visattn.images import Image, Size
from visattn.overlay import Scale
from visattn.saliency import SaliencyMap

PHOTO = "photo"
BOTTOM = 0.02


@dataclass(frozen=True)
class Sheet:
    """Panels with their words, before they have a place.

    Attributes:
        panels: rows and columns, None where there is no panel.
        labels: of rows, columns and panels.
        scaling: styles and colour bars.
    """

    panels: list[list[Panel | None]]
    labels: Labels
    scaling: Scaling

    @classmethod
    def of(cls, maps: Maps, design: Design) -> Sheet:
        """Return the panels of maps, each over its own photo."""
        scaling = Scaling.of(maps, design)
        photos: dict[str, Image] = {}
        panels = [
            [_panel(each, scaling.styles[r][c], photos) for c, each in enumerate(row)]
            for r, row in enumerate(maps)
        ]
        return cls(panels, Labels.of(maps), scaling)

    def with_photos(self) -> Sheet:
        """Return the sheet with the photos before the maps, where rows or columns have one each."""
        rows = [_only_photo(row) for row in self.panels]
        columns = [_only_photo(list(column)) for column in zip(*self.panels, strict=True)]
        if all(rows) and (len(rows) == 1 or len(set(map(id, rows))) > 1):
            return self._shifted(
                [[photo, *row] for photo, row in zip(rows, self.panels, strict=True)], column=True
            )
        if all(columns) and len(set(map(id, columns))) > 1:
            return self._shifted([columns, *self.panels], column=False)
        return self

    def _shifted(self, panels: Any, *, column: bool) -> Sheet:
        one = self.labels
        blank: list[str] = []
        if column:
            # Where columns have no labels of their own, a word above the photo stands with theirs.
            bare = not any(one.columns) and any(one.panels[0])
            heads = [[blank, *row] for row in one.panels]
            heads[0][0] = [PHOTO] if bare else blank
            labels = replace(one, columns=[blank if bare else [PHOTO], *one.columns], panels=heads)
        else:
            labels = replace(
                one, rows=[[PHOTO], *one.rows], panels=[[blank for _ in panels[0]], *one.panels]
            )
        bars = [
            replace(
                bar,
                row=None if bar.row is None else bar.row + (not column),
                column=None if bar.column is None else bar.column + column,
            )
            for bar in self.scaling.bars
        ]
        whole = [[Panel(each) if isinstance(each, Image) else each for each in r] for r in panels]
        return Sheet(whole, labels, replace(self.scaling, bars=bars))


def figure(
    maps: Any,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    panels: Sequence[str] | None = None,
    design: Design | None = None,
    **options: Any,
) -> Figure:
    """Return a figure of maps in rows and columns, over their photos.

    Labels say what differs between rows and columns (photo, model, method, explained class, layer,
    head, query), and above a panel what neither says; ``rows`` and ``columns`` replace them, and
    ``panels`` all of them. Maps share colour scales as ``scale`` says, and the colour bar says how.
    A map without signal is its photo with the reason, and takes part in no scale.

    Args:
        maps: rows of maps (or one map, or a list, which is one row); None leaves a place empty, and
            a row without any map is left out.
        rows: one label for each row that is given.
        columns: one label for each column of maps.
        panels: one label for each map, in reading order, instead of those that maps have.
        design: how the figure is laid out.
        **options: fields of `Design` and of `visattn.overlay.Style` instead of a design:
            ``width="single"``, ``scale="row"``, ``contours=True``.

    Raises `ConfigError` for rows of unequal length, labels that do not fit their number, maps that
    cannot share a scale, and columns that would be too narrow; `ImageError` for a photo that is
    gone or has changed.
    """
    if design is not None and options:
        raise ConfigError(f"Give a design or its options ({', '.join(options)}), not both.")
    chosen = design or Design.create(**options)
    given = listed(maps)
    kept = [row for row in given if any(row)]
    sheet = _titled(Sheet.of(kept, chosen), panels)
    sheet = _relabelled(sheet, _kept_labels(given, rows), columns)
    with rc_context(PAPER):
        return _drawn(sheet.with_photos() if chosen.photos else sheet, chosen)


def letter(index: int) -> str:
    """Return (a), (b), ... (z), (aa), ..."""
    name = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        name = chr(ord("a") + rest) + name
    return f"({name})"


def _panel(saliency: SaliencyMap | None, style: Any, photos: dict[str, Image]) -> Panel | None:
    if saliency is None:
        return None
    stored = saliency.provenance.get("image", {}).get("sha256")
    known = photos.get(stored) if stored else None
    photo = known or saliency.photograph()
    if stored:
        photos[stored] = photo
    return Panel(photo, saliency, style)


def _only_photo(panels: Sequence[Panel | None]) -> Image | None:
    found = {panel.photo.sha256: panel.photo for panel in panels if panel}
    return next(iter(found.values())) if len(found) == 1 else None


def _kept_labels(given: Maps, labels: Sequence[str] | None) -> Sequence[str] | None:
    """Return the labels of the rows that hold a map."""
    if labels is None:
        return None
    if len(labels) != len(given):
        raise ConfigError(f"{len(labels)} labels were given for {len(given)} rows: {list(labels)}.")
    return [label for label, row in zip(labels, given, strict=True) if any(row)]


def _titled(sheet: Sheet, given: Sequence[str] | None) -> Sheet:
    """Return the sheet with one label above each panel and none beside rows and columns."""
    if given is None:
        return sheet
    count = sum(panel is not None for row in sheet.panels for panel in row)
    if len(given) != count:
        raise ConfigError(f"{len(given)} labels were given for {count} maps: {list(given)}.")
    left = iter(given)
    lines = [[[next(left)] if panel else [] for panel in row] for row in sheet.panels]
    blank: list[list[list[str]]] = [[[] for _ in side] for side in (sheet.panels, lines[0])]
    labels = Labels(blank[0], blank[1], lines, sheet.labels.common)
    return replace(sheet, labels=labels)


def _relabelled(sheet: Sheet, rows: Sequence[str] | None, columns: Sequence[str] | None) -> Sheet:
    labels = sheet.labels
    if rows is not None:
        labels = replace(labels, rows=[[text] if text else [] for text in rows])
    if columns is not None:
        count = len(labels.columns)
        if len(columns) != count:
            raise ConfigError(
                f"{len(columns)} labels were given for {count} columns: {list(columns)}."
            )
        labels = replace(labels, columns=[[text] if text else [] for text in columns])
    return replace(sheet, labels=labels)


def _drawn(sheet: Sheet, design: Design) -> Figure:
    width = design.columns.inches
    layout = _layout(sheet, design, width)
    grid = layout.grid()
    places, words, bottom = _bars(sheet.scaling, grid, layout)
    height = round((bottom + BOTTOM) * design.dpi + 0.5) / design.dpi
    page = Figure(figsize=(width, height), dpi=design.dpi, facecolor="white")
    for row, placed in zip(sheet.panels, grid.panels, strict=True):
        for panel, place in zip(row, placed, strict=True):
            if panel is not None and place is not None:
                _paint(page, panel, place, design)
    for bar, place in places:
        colour_bars.draw_bar(page, bar, place, design.style.opacity)
    for each in (*grid.words, *words):
        write(page, each)
    return page


def _layout(sheet: Sheet, design: Design, width: float) -> Layout:
    small = max(4.0, design.font_size - 1.0)
    return Layout(
        aspects=[[panel.aspect if panel else None for panel in row] for row in sheet.panels],
        rows=sheet.labels.rows,
        columns=sheet.labels.columns,
        heads=_heads(sheet, design.letters),
        feet=[[_range(panel, sheet, design) for panel in row] for row in sheet.panels],
        width=width,
        right=colour_bars.side_room(sheet.scaling.bars, small),
        size=design.font_size,
        dpi=design.dpi,
        lettered=design.letters,
    )


def _heads(sheet: Sheet, letters: bool) -> list[list[str]]:
    heads, count = [], 0
    for panels, labels in zip(sheet.panels, sheet.labels.panels, strict=True):
        line = []
        for panel, label in zip(panels, labels, strict=True):
            words = ", ".join(label)
            line.append(f"{letter(count)} {words}".strip() if letters and panel else words)
            count += panel is not None
        heads.append(line)
    return heads


def _range(panel: Panel | None, sheet: Sheet, design: Design) -> str:
    """Return the raw values at the ends of a panel's own scale, in words."""
    if sheet.scaling.kind != "panel" or not design.ranges:
        return ""
    if panel is None or panel.saliency is None or panel.saliency.no_signal:
        return ""
    low, high = Scale.of(panel.saliency, panel.style).limits
    return f"{number(f'{low:.3g}')} to {number(f'{high:.3g}')}"


def _bars(
    scaling: Scaling, grid: Grid, layout: Layout
) -> tuple[list[tuple[ColourBar, Place]], list[Words], float]:
    """Return the colour bars with their places, their words, and where the page ends."""
    size, bottom = layout.small, grid.bottom
    places: list[tuple[ColourBar, Place]] = []
    words: list[Words] = []
    for bar in scaling.bars:
        if bar.row is not None:
            place, said = colour_bars.beside(bar, grid, layout.width - layout.right, size)
        elif bar.column is not None:
            place, said, end = colour_bars.under_column(bar, grid, size)
            bottom = max(bottom, end)
        else:
            continue
        places.append((bar, place))
        words += said
    room = layout.width - grid.left - layout.right
    common = [bar for bar in scaling.bars if bar.row is None and bar.column is None]
    if common:
        spots, said, bottom = colour_bars.below(common, grid.left, bottom + 2 * PAD, room, size)
        places += zip(common, spots, strict=True)
        words += said
    lines = wrap(scaling.statement, size, room) if scaling.statement else []
    bottom += PAD if lines else 0.0
    words += stacked(lines, grid.left + room / 2, bottom, size)
    return places, words, bottom + len(lines) * leading(size)


def _paint(page: Figure, panel: Panel, place: Place, design: Design) -> None:
    wide, high = page.get_size_inches()
    axes = page.add_axes(
        (place.left / wide, 1 - (place.top + place.height) / high, place.width / wide,
         place.height / high)
    )  # fmt: skip
    size = Size(round(place.height * design.dpi), round(place.width * design.dpi))
    paint(panel, axes, size, design)
    axes.set_aspect("auto")


def write(page: Figure, words: Words) -> None:
    """Write a line of text where it belongs."""
    wide, high = page.get_size_inches()
    page.text(
        words.x / wide, 1 - words.y / high, words.text, fontsize=words.size, va="baseline",
        ha=words.align, rotation=90 if words.upright else 0, rotation_mode="anchor",
        color=words.colour, parse_math=False,
    )  # fmt: skip
