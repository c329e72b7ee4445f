"""Objects that are planted into scenes: shapes, letters and patterns, of any size and angle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from visattn.errors import ConfigError, suggestion

FRACTION = 5  # bits of a pixel's fraction in OpenCV's drawing
FINE = 4  # side of the square of samples that one pixel of a pattern or letter averages
CANVAS = 160


@dataclass(frozen=True, eq=False)
class Stamp:
    """An object on its own small canvas.

    Attributes:
        alpha: (row, col) float32 in 0..1, how much of a pixel the object covers.
        tone: (row, col) float32 in 0..1, 0 where the object has its first colour, 1 its second.
    """

    alpha: np.ndarray
    tone: np.ndarray


Draw = Callable[[float, float], Stamp]


def stamp(kind: str, name: str, diameter: float, angle: float) -> Stamp:
    """Return an object of one of `KINDS`, ``diameter`` pixels across, turned by ``angle`` degrees.

    Raises `ConfigError` for an unknown kind or name.
    """
    return _known(kind, name)(diameter, angle)


def names_of(kind: str) -> tuple[str, ...]:
    """Return the names of the objects of a kind, which are its classes in their order."""
    if kind not in KINDS:
        raise ConfigError(f"There is no kind of object {kind!r}.{suggestion(kind, KINDS)}")
    return tuple(KINDS[kind])


def _known(kind: str, name: str) -> Draw:
    if name not in names_of(kind):
        raise ConfigError(f"There is no {kind} {name!r}.{suggestion(name, KINDS[kind])}")
    return KINDS[kind][name]


def _polygon(corners: np.ndarray) -> Draw:
    """Return a drawing of a polygon; corners (corner, 2) as x, y within the unit circle."""
    return lambda diameter, angle: _plain(_filled(corners, diameter, angle))


def _filled(corners: np.ndarray, diameter: float, angle: float) -> np.ndarray:
    turned = corners @ _rotation(angle).T * (diameter / 2)
    side = _side(diameter)
    points = np.rint((turned + (side - 1) / 2) * 2**FRACTION).astype(np.int32)
    canvas = np.zeros((side, side), np.uint8)
    cv2.fillPoly(canvas, [points], 255, cv2.LINE_AA, FRACTION)
    return canvas


def _without(outer: np.ndarray, inner: np.ndarray) -> Draw:
    """Return a drawing of a polygon with another one cut out."""

    def draw(diameter: float, angle: float) -> Stamp:
        hole = _filled(inner, diameter, angle)
        return _plain(np.minimum(_filled(outer, diameter, angle), 255 - hole))

    return draw


def _letter(text: str) -> Draw:
    """Return a drawing of a capital letter in OpenCV's stroke font."""
    face, scale, thickness = cv2.FONT_HERSHEY_SIMPLEX, 4.6, 28
    (width, height), _ = cv2.getTextSize(text, face, scale, thickness)
    plate = np.zeros((CANVAS, CANVAS), np.uint8)
    corner = ((CANVAS - width) // 2, (CANVAS + height) // 2)
    cv2.putText(plate, text, corner, face, scale, 255, thickness, cv2.LINE_AA)
    return lambda diameter, angle: _plain(_turned(plate, diameter, angle))


def _pattern(tone: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Draw:
    """Return a drawing of a square with a two-tone pattern of x, y in -1..1."""
    line = (np.arange(CANVAS) + 0.5) / CANVAS * 2 - 1
    x, y = np.meshgrid(line, line)
    plate = np.where(tone(x, y), 255, 0).astype(np.uint8)
    reach = np.sqrt(0.5)  # so that the square's corners lie on the circle
    square = reach * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])

    def draw(diameter: float, angle: float) -> Stamp:
        alpha = _filled(square, diameter, angle)
        inside = _turned(plate, diameter * reach, angle, _side(diameter))
        return Stamp(_unit(alpha), _unit(inside))

    return draw


def _turned(plate: np.ndarray, extent: float, angle: float, side: int | None = None) -> np.ndarray:
    """Return a square plate scaled to ``extent`` pixels and turned, each pixel an average."""
    side = _side(extent) if side is None else side
    scale, fine = extent / CANVAS * FINE, side * FINE
    affine = np.zeros((2, 3))
    affine[:, :2] = _rotation(angle) * scale
    affine[:, 2] = (fine - 1) / 2 - affine[:, :2] @ np.full(2, (CANVAS - 1) / 2)
    large = cv2.warpAffine(plate, affine, (fine, fine), flags=cv2.INTER_LINEAR)
    small: np.ndarray = cv2.resize(large, (side, side), interpolation=cv2.INTER_AREA)
    return small


def _rotation(angle: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.array([[cos, -sin], [sin, cos]])


def _side(diameter: float) -> int:
    return int(np.ceil(diameter)) + 2


def _plain(alpha: np.ndarray) -> Stamp:
    return Stamp(_unit(alpha), np.zeros(alpha.shape, np.float32))


def _unit(values: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = np.divide(values, 255, dtype=np.float32)
    return scaled


def _round(radius: float = 1.0, at: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    circle: np.ndarray = radius * np.stack([np.cos(turn), np.sin(turn)], axis=1) + np.array(at)
    return circle


def _star() -> np.ndarray:
    turn = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2, 0.42, 1.0)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 18.5


def _points(*corners: tuple[float, float]) -> np.ndarray:
    return np.array(corners, dtype=np.float64)


ARROW = _points((0, -1), (0.75, -0.1), (0.28, -0.1), (0.28, 0.95), (-0.28, 0.95), (-0.28, -0.1),
                (-0.75, -0.1))  # fmt: skip
CROSS = _points((-0.3, -0.95), (0.3, -0.95), (0.3, -0.3), (0.95, -0.3), (0.95, 0.3), (0.3, 0.3),
                (0.3, 0.95), (-0.3, 0.95), (-0.3, 0.3), (-0.95, 0.3), (-0.95, -0.3),
                (-0.3, -0.3))  # fmt: skip
HOURGLASS = _points((-0.7, -0.7), (0.7, -0.7), (0.16, 0), (0.7, 0.7), (-0.7, 0.7), (-0.16, 0))
TRIANGLE = _points((0, -1), (0.866, 0.5), (-0.866, 0.5))

SHAPES: Mapping[str, Draw] = MappingProxyType(
    {
        "arrow": _polygon(ARROW),
        "crescent": _without(_round(), _round(0.8, (0.45, 0.0))),
        "cross": _polygon(CROSS),
        "heart": _polygon(_heart()),
        "hourglass": _polygon(HOURGLASS),
        "ring": _without(_round(), _round(0.55)),
        "star": _polygon(_star()),
        "triangle": _polygon(TRIANGLE),
    }
)
LETTERS: Mapping[str, Draw] = MappingProxyType({text: _letter(text) for text in "AEHKRSTY"})
PATTERNS: Mapping[str, Draw] = MappingProxyType(
    {
        "bars": _pattern(lambda x, _: np.floor(x * 2.5 + 0.5) % 2 > 0),
        "checks": _pattern(lambda x, y: (np.floor(x * 2) + np.floor(y * 2)) % 2 > 0),
        "dots": _pattern(lambda x, y: (x * 1.5 % 1 - 0.5) ** 2 + (y * 1.5 % 1 - 0.5) ** 2 < 0.09),
        "frames": _pattern(lambda x, y: np.floor(np.maximum(abs(x), abs(y)) * 4) % 2 > 0),
        "grid": _pattern(lambda x, y: np.minimum(x * 1.5 % 1, y * 1.5 % 1) < 0.3),
        "rings": _pattern(lambda x, y: np.floor(np.hypot(x, y) * 4) % 2 > 0),
        "stripes": _pattern(lambda _, y: np.floor(y * 2.5 + 0.5) % 2 > 0),
        "zigzag": _pattern(lambda x, y: np.floor((y + abs(x * 1.5 % 1 - 0.5)) * 2.5) % 2 > 0),
    }
)
KINDS: Mapping[str, Mapping[str, Draw]] = MappingProxyType(
    {"shape": SHAPES, "letter": LETTERS, "pattern": PATTERNS}
)
