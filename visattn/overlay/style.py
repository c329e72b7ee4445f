"""Style: every choice of how a map is drawn, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from PIL import ImageColor

from visattn.errors import ConfigError, suggestion
from visattn.geometry import INTERPOLATIONS
from visattn.normalization import NORMALIZATIONS
from visattn.overlay.colormap import check_colormap

UNSEEN = ("dim", "hatch", "outline", "none")
CONTOURS = (0.5,)


@dataclass(frozen=True)
class Style:
    """How a map is drawn over its photo.

    Attributes:
        colormap: a matplotlib name, or None for the default (sequential or diverging by the scale).
        opacity: share of paint where the map is highest, 0 to 1; it falls linearly to 0 at zero.
        normalization: a name of `visattn.normalization`, or None for the map's own default.
        limits: raw values (low, high) at the ends of the scale, so that maps can share one;
            signed maps that reach below zero need low = -high.
        interpolation: ``bilinear`` or ``nearest`` between the cells.
        contours: levels on the normalised scale (0 to 1; also -1 to 0 on a symmetric one).
        mask: share of the positive mass that stays bright, the rest being dimmed, or None.
        dim: how dark the rest gets under ``mask``: 0 unchanged, 1 black.
        box: share of the positive mass whose largest connected region is framed, or None.
        unseen: what marks the region the model did not see: ``dim`` (greyed, dimmed and outlined),
            ``hatch``, ``outline`` or ``none``.
        line_color: colour of contours and box, as CSS name or ``#rrggbb``.
        line_width: their width in photo pixels, or None to follow the size of the photo.
        colorbar: add the colour bar below the photo.
        caption: add the caption below the photo.
        font_size: text height in pixels, or None to follow the size of the photo.
        background: colour of the strips below the photo.
    """

    colormap: str | None = None
    opacity: float = 0.8
    normalization: str | None = None
    limits: tuple[float, float] | None = None
    interpolation: str = "bilinear"
    contours: tuple[float, ...] = ()
    mask: float | None = None
    dim: float = 0.75
    box: float | None = None
    unseen: str = "dim"
    line_color: str = "white"
    line_width: float | None = None
    colorbar: bool = False
    caption: bool = False
    font_size: int | None = None
    background: str = "white"

    def __post_init__(self) -> None:
        if self.colormap is not None:
            check_colormap(self.colormap)
        if self.normalization is not None:
            _choice("normalization", self.normalization, NORMALIZATIONS)
        _choice("interpolation", self.interpolation, INTERPOLATIONS)
        _choice("unseen", self.unseen, UNSEEN)
        _number("opacity", self.opacity, 0, 1)
        _number("dim", self.dim, 0, 1)
        for name in ("mask", "box"):
            _share(name, getattr(self, name))
        for level in _numbers("contours", self.contours):
            _number("contours", level, -1, 1)
        for name, low in (("line_width", 0.1), ("font_size", 5)):
            if getattr(self, name) is not None:
                _number(name, getattr(self, name), low, 1000)
        for name in ("line_color", "background"):
            _colour(name, getattr(self, name))
        for name in ("colorbar", "caption"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is true or false, not {getattr(self, name)!r}.")
        self._check_limits()

    @classmethod
    def create(cls, **options: Any) -> Style:
        """Return a style from options as a config file or a caller writes them.

        Lists stand for tuples, a single number for one contour level, ``contours=True`` for the
        level 0.5. Raises `ConfigError` for an unknown option, with the nearest right name, and for
        a value outside its range.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise ConfigError(f"There is no drawing option {name!r}.{suggestion(name, known)}")
        for name in ("contours", "limits"):
            if name in options:
                options[name] = _tuple(options[name])
        return cls(**options)

    def _check_limits(self) -> None:
        if self.limits is None:
            return
        values = _numbers("limits", self.limits)
        if len(values) != 2 or not values[0] < values[1]:
            raise ConfigError(f"limits are (low, high) with low < high, not {self.limits!r}.")
        if self.normalization is not None:
            raise ConfigError(
                f"limits={self.limits!r} and normalization={self.normalization!r} both fix the "
                "scale; give one of them."
            )


def _tuple(value: Any) -> Any:
    if value is True:
        return CONTOURS
    if value is False:
        return ()
    if isinstance(value, (int, float)):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def _choice(name: str, value: Any, right: Any) -> None:
    if value not in right:
        raise ConfigError(f"{name}={value!r} does not exist.{suggestion(str(value), right)}")


def _number(name: str, value: Any, low: float, high: float) -> None:
    _numbers(name, (value,))
    if not low <= value <= high:
        raise ConfigError(f"{name} is a number from {low:g} to {high:g}, not {value!r}.")


def _numbers(name: str, values: Any) -> tuple[float, ...]:
    if not isinstance(values, tuple):
        raise ConfigError(f"{name} is a list of numbers, not {values!r}.")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{name} is made of numbers, and {value!r} is not one.")
        if not math.isfinite(value):
            raise ConfigError(f"{name} is made of finite numbers, not {value!r}.")
    return values


def _share(name: str, value: Any) -> None:
    if value is None:
        return
    _number(name, value, 0, 1)
    if value == 0:
        raise ConfigError(f"{name} is a share of the mass above 0, up to 1; 0 would show nothing.")


def _colour(name: str, value: Any) -> None:
    try:
        ImageColor.getrgb(value)
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{name}={value!r} is not a colour: give a CSS name or #rrggbb."
        ) from error
