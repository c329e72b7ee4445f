"""Difficulty: how large, how clear and how crowded planted scenes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from visattn.errors import ConfigError, suggestion

Range = tuple[float, float]


@dataclass(frozen=True)
class Difficulty:
    """Ranges from which a planted scene is drawn.

    Attributes:
        diameter: of objects and distractors, as shares of the shorter side of the image.
        distractors: fewest and most distractors.
        contrast: difference of an object's luminance from the mean behind its bounding square, and
            of a pattern's second tone from its first, 0..1.
        angle: largest turn to either side, in degrees.
        occluded: share of scenes in which a distractor lies on the object.
        cover: largest share of the object that the distractor may hide then.
    """

    diameter: Range
    distractors: tuple[int, int]
    contrast: Range
    angle: float
    occluded: float
    cover: float


LEVELS: Mapping[str, Difficulty] = MappingProxyType(
    {
        "easy": Difficulty((0.35, 0.5), (0, 1), (0.35, 0.6), 10.0, 0.0, 0.0),
        "default": Difficulty((0.22, 0.4), (1, 3), (0.22, 0.5), 20.0, 0.2, 0.2),
        "hard": Difficulty((0.16, 0.28), (3, 6), (0.12, 0.35), 30.0, 0.5, 0.35),
    }
)


def difficulty_of(level: str | Difficulty) -> Difficulty:
    """Return a difficulty by its name in `LEVELS`, or the one given; raises `ConfigError`."""
    if isinstance(level, Difficulty):
        return level
    if level not in LEVELS:
        raise ConfigError(f"There is no difficulty {level!r}.{suggestion(str(level), LEVELS)}")
    return LEVELS[level]
