"""Where panels and words lie on a page: inches from its top left corner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from visattn.errors import ConfigError
from visattn.figures.typesetting import leading, measure, parts, wrap

GAP, PAD = 0.045, 0.035
TALLEST = 1.5
MOST_LINES = 4
NARROWEST = 0.15
LABELLED = 0.6  # inches that a low row grows to, at most, so that its label can be read

Aspects = Sequence[Sequence[float | None]]


class Place(NamedTuple):
    """A rectangle on the page, in inches from its top left corner."""

    left: float
    top: float
    width: float
    height: float


class Words(NamedTuple):
    """One line of text: where its baseline starts, is centred or ends, and how it is set."""

    x: float
    y: float
    text: str
    size: float
    align: str = "center"
    upright: bool = False
    colour: str = "black"


@dataclass(frozen=True)
class Grid:
    """Panels on a page.

    Attributes:
        widths: of the columns, in inches.
        heights: of the rows.
        left: where the first column starts.
        panels: the place of each panel, None where there is none.
        tops: where the panels of each row begin.
        bottom: where the last row ends, with what stands below it.
        words: labels of rows, columns and panels.
    """

    widths: list[float]
    heights: list[float]
    left: float
    panels: list[list[Place | None]]
    tops: list[float]
    bottom: float
    words: list[Words] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """What a grid is made of; `grid` lays it out.

    Attributes:
        aspects: height over width of each panel, None where there is none.
        rows, columns: the lines of each label.
        heads: the line above each panel; feet: the line below.
        width: of the page, in inches.
        right: kept free on the right.
        size: of the text, in points.
        dpi: places are multiples of 1/dpi, so that pixels of a PNG are pixels of the panels.
        lettered: whether heads start with a letter, and so at the left.
    """

    aspects: Aspects
    rows: Sequence[Sequence[str]]
    columns: Sequence[Sequence[str]]
    heads: Sequence[Sequence[str]]
    feet: Sequence[Sequence[str]]
    width: float
    right: float
    size: float
    dpi: int
    lettered: bool = False

    @property
    def small(self) -> float:
        """Size of secondary text."""
        return max(4.0, self.size - 1.0)

    def grid(self) -> Grid:
        """Return the grid; row labels take as many lines as the rows are short."""
        lines, left = [0], 0.0
        for _ in range(MOST_LINES):
            left = max(lines) * leading(self.size) + (PAD if max(lines) else 0.0)
            widths, heights = self._sizes(left)
            lines = [len(self._row_lines(label, heights[i])) for i, label in enumerate(self.rows)]
            if max(lines) * leading(self.size) <= left:
                break
        return self._placed(left, widths, heights, left)

    def _snap(self, inches: float) -> float:
        return round(inches * self.dpi) / self.dpi

    def _sizes(self, left: float) -> tuple[list[float], list[float]]:
        """Return column widths and row heights.

        Columns are as wide as the photos in them, so that photos side by side are equally high;
        a photo much taller than the others (`TALLEST`), and than wide, is reduced instead. Raises
        `ConfigError` for a column narrower than `NARROWEST` inches.
        """
        weights = _weights(self.aspects)
        room = self.width - left - self.right - GAP * (len(weights) - 1)
        widths = [int(room * weight * self.dpi) / self.dpi for weight in weights]
        if min(widths) < NARROWEST:
            left_over = max(0.0, min(widths))
            raise ConfigError(
                f"{len(widths)} columns in {self.width:.2f} inches leave {left_over:.2f} inches "
                f"for the narrowest, and a panel is at least {NARROWEST:g} wide: make the "
                "figure wider (--width), or give it fewer columns."
            )
        lowest = min(a for row in self.aspects for a in row if a)
        tallest = max(1.0, TALLEST * lowest) * room / len(weights)
        heights = [
            self._snap(
                max(
                    self._shortest(label),
                    min(tallest, max((a * w for a, w in zip(row, widths, strict=True) if a))),
                )
            )
            for row, label in zip(self.aspects, self.rows, strict=True)
        ]
        return widths, heights

    def _shortest(self, label: Sequence[str]) -> float:
        """Return how high a row must be for the parts of its label, up to `LABELLED`."""
        found = [measure(part.strip(), self.size) for fact in label for part in parts(fact)]
        return min(LABELLED, max(found, default=0.0))

    def _row_lines(self, label: Sequence[str], height: float) -> list[str]:
        return [line for fact in label for line in wrap(fact, self.size, height, 2)][:MOST_LINES]

    def _placed(self, left: float, widths: list[float], heights: list[float], strip: float) -> Grid:
        left = self._snap(left)
        words = self._column_words(left, widths)
        top = max((word.y for word in words), default=0.0)
        top += 0.3 * self.size / 72 + PAD if words else 0.0
        panels: list[list[Place | None]] = []
        tops = []
        for row, height in enumerate(heights):
            headed = any(self.heads[row])
            top += (2 * GAP if headed else GAP) if row else 0.0
            top += self._head(row, left, widths, top, height, words)
            top = self._snap(top)
            tops.append(top)
            panels.append(self._row(row, left, widths, top, height))
            words += self._row_words(row, top, height, strip)
            top += height + self._foot(row, left, widths, top + height, words)
        return Grid(widths, heights, left, panels, tops, top, words)

    def _row(
        self, row: int, left: float, widths: list[float], top: float, height: float
    ) -> list[Place | None]:
        placed: list[Place | None] = []
        for aspect, width in zip(self.aspects[row], widths, strict=True):
            if aspect is None:
                placed.append(None)
            else:
                wide = self._breadth(aspect, width, height)
                high = self._snap(min(height, wide * aspect))
                place = Place(
                    self._snap(left + (width - wide) / 2), self._snap(top + (height - high) / 2),
                    wide, high,
                )  # fmt: skip
                placed.append(place)
            left = self._snap(left + width + GAP)
        return placed

    def _breadth(self, aspect: float, width: float, height: float) -> float:
        return self._snap(min(width, height / aspect))

    def _column_words(self, left: float, widths: list[float]) -> list[Words]:
        """Return the labels of the columns, standing on the panels."""
        wrapped = [
            [line for fact in label for line in wrap(fact, self.size, width)]
            for label, width in zip(self.columns, widths, strict=True)
        ]
        most = max(map(len, wrapped))
        words = []
        for lines, width in zip(wrapped, widths, strict=True):
            first = most - len(lines)
            words += stacked(lines, left + width / 2, first * leading(self.size), self.size)
            left += width + GAP
        return words

    def _row_words(self, row: int, top: float, height: float, strip: float) -> list[Words]:
        lines = self._row_lines(self.rows[row], height)
        step = leading(self.size)
        start = strip - PAD - len(lines) * step
        return [
            Words(start + (i + 0.78) * step, top + height / 2, line, self.size, upright=True)
            for i, line in enumerate(lines)
        ]

    def _head(
        self,
        row: int,
        left: float,
        widths: list[float],
        top: float,
        height: float,
        words: list[Words],
    ) -> float:
        """Add the words above the panels of a row, and return how high they stand."""
        wrapped = [
            wrap(text, self.size, min(width, self._breadth(aspect or 1.0, width, height)))
            if text
            else []
            for text, aspect, width in zip(self.heads[row], self.aspects[row], widths, strict=True)
        ]
        most = max(map(len, wrapped))
        for lines, aspect, width in zip(wrapped, self.aspects[row], widths, strict=True):
            start = top + (most - len(lines)) * leading(self.size)
            side = (width - self._breadth(aspect, width, height)) / 2 if aspect else 0.0
            align, x = ("left", left + side) if self.lettered else ("center", left + width / 2)
            words += stacked(lines, x, start, self.size, align)
            left += width + GAP
        return most * leading(self.size) + (PAD if most else 0.0)

    def _foot(
        self, row: int, left: float, widths: list[float], top: float, words: list[Words]
    ) -> float:
        """Add the words below the panels of a row, and return how high they stand."""
        for text, width in zip(self.feet[row], widths, strict=True):
            lines = wrap(text, self.small, width, 1) if text else []
            words += stacked(lines, left + width / 2, top + PAD / 2, self.small)
            left += width + GAP
        return leading(self.small) + PAD / 2 if any(self.feet[row]) else 0.0


def stacked(
    lines: Sequence[str], x: float, top: float, size: float, align: str = "center"
) -> list[Words]:
    """Return lines of text below each other, the first one beginning at ``top``."""
    step = leading(size)
    return [Words(x, top + (i + 0.78) * step, line, size, align) for i, line in enumerate(lines)]


def _weights(aspects: Aspects) -> list[float]:
    """Return the share of each column in the width, from the photos' aspects; the sum is 1."""
    shares = []
    for row in aspects:
        known = [1 / aspect for aspect in row if aspect]
        mean = sum(known) / len(known)
        shares.append([1 / aspect / mean if aspect else None for aspect in row])
    weights = []
    for column in zip(*shares, strict=True):
        known = [share for share in column if share]
        weights.append(sum(known) / len(known) if known else 1.0)
    return [weight / sum(weights) for weight in weights]


def fits(texts: Sequence[str], size: float, room: float) -> bool:
    """Return whether texts stand beside each other in ``room`` inches."""
    return sum(measure(text, size) for text in texts) + (len(texts) - 1) * size / 72 <= room
