"""Strips of text below the photo, never over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image as PillowImage
from PIL import ImageColor, ImageDraw

from visattn.images import Size
from visattn.overlay.style import Style
from visattn.overlay.text import Font, font, font_size

NARROWEST = 224
LEADING = 1.4
MARGIN = 0.7


@dataclass(frozen=True)
class Sheet:
    """What all strips of one picture share: width in pixels, text size and colours."""

    width: int
    size: int
    background: tuple[int, int, int]

    @classmethod
    def of(cls, photo: Size, style: Style) -> Sheet:
        """Return the sheet below a photo: as wide as the photo, but wide enough to read."""
        size = font_size(photo, style.font_size)
        red, green, blue = ImageColor.getrgb(style.background)[:3]
        return cls(max(photo.width, round(NARROWEST * size / 11)), size, (red, green, blue))

    @property
    def margin(self) -> int:
        """Space around the text."""
        return round(MARGIN * self.size)

    @property
    def leading(self) -> int:
        """Distance between two lines of text."""
        return round(LEADING * self.size)

    @property
    def room(self) -> int:
        """Width that text may fill."""
        return self.width - 2 * self.margin

    @property
    def dark(self) -> bool:
        """Whether the background is dark, so that text is light."""
        red, green, blue = self.background
        return 0.299 * red + 0.587 * green + 0.114 * blue < 128

    @property
    def ink(self) -> str:
        """Colour of main text."""
        return "#f4f4f4" if self.dark else "#111111"

    @property
    def pale(self) -> str:
        """Colour of secondary text, still 4.5 : 1 against black or white."""
        return "#a8a8a8" if self.dark else "#5a5a5a"

    def face(self, bold: bool = False) -> Font:
        """Return the font of the sheet."""
        return font(self.size, bold)

    def blank(self, height: int) -> PillowImage.Image:
        """Return an empty strip."""
        return PillowImage.new("RGB", (self.width, height), self.background)


@dataclass(frozen=True)
class Line:
    """One line of text."""

    text: str
    bold: bool = False
    pale: bool = False


def text_strip(lines: Sequence[Line], sheet: Sheet) -> PillowImage.Image:
    """Return a strip with the lines below each other; they must fit `Sheet.room`."""
    strip = sheet.blank(2 * sheet.margin + sheet.leading * len(lines))
    pen = ImageDraw.Draw(strip)
    for row, line in enumerate(lines):
        top = sheet.margin + round((row + 0.5) * sheet.leading)
        colour = sheet.pale if line.pale else sheet.ink
        pen.text((sheet.margin, top), line.text, colour, sheet.face(line.bold), anchor="lm")
    return strip


def stack(picture: PillowImage.Image, strips: Sequence[PillowImage.Image]) -> PillowImage.Image:
    """Return the picture at the top left, with the strips below it."""
    if not strips:
        return picture
    width = max(each.width for each in strips)
    height = picture.height + sum(each.height for each in strips)
    whole = PillowImage.new("RGB", (width, height), strips[0].getpixel((0, 0)))
    whole.paste(picture, (0, 0))
    top = picture.height
    for each in strips:
        whole.paste(each, (0, top))
        top += each.height
    return whole
