"""Design: every choice of how a figure is laid out, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from visattn.errors import ConfigError, suggestion
from visattn.figures.width import Width
from visattn.overlay import Style

SCALES = ("auto", "shared", "row", "column", "panel")
BASES = ("grey", "faded", "photo")
DPI = (50, 2400)
FONT = (4.0, 24.0)


@dataclass(frozen=True)
class Design:
    """How panels become a figure.

    Attributes:
        width: ``single``, ``double`` or inches.
        venue: whose columns ``single`` and ``double`` are; a name of `visattn.figures.VENUES`.
        dpi: pixels per inch of photos and maps; text, lines and frames are vectors.
        scale: which maps share a colour scale: ``shared`` (all), ``row``, ``column``, ``panel``
            (none), or ``auto``: all maps of one method and model whose ranges are alike, else none.
        base: the photo under the maps: ``grey``, ``faded`` (towards white) or ``photo``.
        photos: show the photos themselves beside the maps, where a row or column has one photo.
        letters: mark the panels (a), (b), ...
        ranges: write each panel's own range below it where panels do not share a scale.
        font_size: in points.
        style: how maps are drawn; see `visattn.overlay.Style`.
    """

    width: Any = "double"
    venue: str = "cvpr"
    dpi: int = 300
    scale: str = "auto"
    base: str = "grey"
    photos: bool = True
    letters: bool = False
    ranges: bool = True
    font_size: float = 7.0
    style: Style = field(default_factory=Style)

    def __post_init__(self) -> None:
        _choice("scale", self.scale, SCALES)
        _choice("base", self.base, BASES)
        _between("dpi", self.dpi, *DPI)
        _between("font_size", self.font_size, *FONT)
        for name in ("photos", "letters", "ranges"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is true or false, not {getattr(self, name)!r}.")
        Width.of(self.width, self.venue)
        if self.style.limits is not None and self.scale not in ("auto", "shared"):
            raise ConfigError(
                f"limits={self.style.limits!r} fix one scale for all panels, and "
                f"scale={self.scale!r} asks for several; give one of them."
            )

    @classmethod
    def create(cls, **options: Any) -> Design:
        """Return a design from options; those of `visattn.overlay.Style` may stand among them.

        Raises `ConfigError` for an unknown option, with the nearest right name, and for a value
        outside its range.
        """
        own = [each.name for each in fields(cls)]
        drawing = [each.name for each in fields(Style)]
        for name in options:
            if name not in own and name not in drawing:
                known = [*own, *drawing]
                raise ConfigError(f"There is no figure option {name!r}.{suggestion(name, known)}")
        given = {name: value for name, value in options.items() if name in own}
        styled = {name: value for name, value in options.items() if name not in own}
        if styled:
            if "style" in given:
                raise ConfigError(f"{', '.join(styled)}: put drawing options into style.")
            given["style"] = Style.create(**styled)
        return cls(**given)

    @property
    def columns(self) -> Width:
        """The width, and how LaTeX includes it."""
        return Width.of(self.width, self.venue)


def _choice(name: str, value: Any, right: tuple[str, ...]) -> None:
    if value not in right:
        raise ConfigError(f"{name}={value!r} does not exist.{suggestion(str(value), right)}")


def _between(name: str, value: Any, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ConfigError(f"{name} is a number from {low:g} to {high:g}, not {value!r}.")
