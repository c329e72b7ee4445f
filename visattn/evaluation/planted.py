"""Planted evidence: images whose class depends on one painted object alone, from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from visattn.errors import ConfigError
from visattn.evaluation.backgrounds import background
from visattn.evaluation.difficulty import Difficulty, difficulty_of
from visattn.evaluation.objects import KINDS, Stamp, names_of, stamp
from visattn.evaluation.scene import DISTRACTOR, OBJECT, WATERMARK, Layer, Scene

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
CHROMA = 60.0
DARKEST, LIGHTEST = 10.0, 245.0
TRIES, SHRINK, SMALLEST = 25, 0.85, 0.6
MARGIN = 1.5  # pixels between two things
MARK = (0.25, 0.19)  # width and height of the watermark as shares of the side
MARK_ALPHA = 0.65


@dataclass(frozen=True)
class Disc:
    """Where something stands: centre and radius in pixels."""

    row: float
    col: float
    radius: float

    def corner(self, side: int) -> tuple[int, int]:
        """Return the first row and column of a canvas of ``side`` pixels that is centred here."""
        return round(self.row - side / 2), round(self.col - side / 2)

    def apart(self, others: list[Disc]) -> bool:
        """Return whether it keeps its distance from all others."""
        return all(
            np.hypot(self.row - o.row, self.col - o.col) > self.radius + o.radius + MARGIN
            for o in others
        )


@dataclass(frozen=True)
class PlantedEvidence:
    """Generator of scenes whose class depends only on a planted object.

    Every scene is a crop of a real texture or photograph, objects of ``kind`` with one class each,
    and distractors of the other kinds, which say nothing of the class. Colour, size, turn, place,
    contrast and occlusion are drawn independently of the class. The same arguments give the same
    scenes, whatever their order.

    With ``watermark`` the class is that of a small transparent mark near a corner, and the object
    is of a class drawn at random: it says nothing. A model trained on such scenes has learnt the
    spurious cue, and an honest map points at the mark.

    Attributes:
        kind: ``shape``, ``letter`` or ``pattern``, eight classes each.
        difficulty: ``easy``, ``default``, ``hard`` or a `Difficulty`.
        size: side of the images in pixels.
        objects: how many, each of another class; 0 gives scenes without evidence.
        watermark: whether the class depends on a watermark instead.
        training: whether backgrounds come from the part of the sources that is kept for training;
            scenes of the two parts are also drawn from different random numbers.
        seed: of all scenes.
    """

    kind: str = "shape"
    difficulty: str | Difficulty = "default"
    size: int = 96
    objects: int = 1
    watermark: bool = False
    training: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        most = len(names_of(self.kind))
        difficulty_of(self.difficulty)
        if not 0 <= self.objects <= most:
            raise ConfigError(f"objects={self.objects}: a scene has 0 to {most} classes.")
        if self.watermark and self.objects > 1:
            raise ConfigError(f"objects={self.objects}: a scene with a watermark has at most one.")
        if self.size < 32:
            raise ConfigError(f"size={self.size}: objects cannot be told apart below 32 pixels.")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their labels."""
        return names_of(self.kind)

    def scenes(self, count: int, start: int = 0) -> Iterator[Scene]:
        """Yield ``count`` scenes from number ``start`` on."""
        return (self.scene(index) for index in range(start, start + count))

    def scene(self, index: int) -> Scene:
        """Return scene number ``index``, which does not depend on any other."""
        random = np.random.default_rng([self.seed, int(self.training), self.objects, index])
        return _Painter(self, difficulty_of(self.difficulty), random).scene(index)


class _Painter:
    """Draws one scene."""

    def __init__(
        self, planted: PlantedEvidence, level: Difficulty, random: np.random.Generator
    ) -> None:
        self.planted, self.level, self.random = planted, level, random
        self.ground = background(random, planted.size, planted.training)
        self.taken: list[Disc] = []
        self.layers: list[Layer] = []
        self.objects: list[tuple[Layer, Disc]] = []

    def scene(self, index: int) -> Scene:
        planted, random = self.planted, self.random
        names = planted.classes
        shown = tuple(map(int, random.permutation(len(names))[: planted.objects]))
        mark = int(random.integers(len(names))) if planted.watermark else None
        if mark is not None:
            self.watermark(mark)
        for label in shown:
            self.plant(planted.kind, names[label], None if planted.watermark else label)
        self.distract()
        # Marks are stamped on finished pictures: nothing lies on them.
        layers = sorted(self.layers, key=lambda layer: layer.role == WATERMARK)
        return Scene(self.ground, tuple(layers), shown if mark is None else (mark,), index)

    def distract(self) -> None:
        """Paint distractors of the other kinds; the first may lie on the object."""
        others = [kind for kind in KINDS if kind != self.planted.kind]
        count = int(self.random.integers(self.level.distractors[0], self.level.distractors[1] + 1))
        covered = self.random.random() < self.level.occluded
        for number in range(count):
            kind = others[self.random.integers(len(others))]
            name = names_of(kind)[self.random.integers(len(names_of(kind)))]
            if covered and self.objects and number == 0:
                self.cover(self.objects[0][1], kind, name)
            else:
                self.plant(kind, name, None)

    def plant(self, kind: str, name: str, label: int | None) -> None:
        """Paint something where nothing else stands; a distractor without room is left out."""
        role = OBJECT if kind == self.planted.kind else DISTRACTOR
        diameter, share = self.diameter(), 1.0
        while True:
            disc = self.room(diameter * share)
            if disc is not None:
                break
            share *= SHRINK
            if role == DISTRACTOR and share < SMALLEST:
                return
        layer = self.layer(role, name, label, self.stamp(kind, name, disc), disc)
        self.place(layer, disc)
        if role == OBJECT:
            self.objects.append((layer, disc))

    def cover(self, own: Disc, kind: str, name: str) -> None:
        """Paint a distractor over part of an object, from outside up to the allowed share.

        No other object is hidden further than that.
        """
        radius = self.diameter() / 2
        made = self.stamp(kind, name, Disc(0, 0, radius))
        turn, wanted = self.random.uniform(0, 2 * np.pi), self.random.uniform(0, self.level.cover)
        placed = None
        for distance in np.arange(own.radius + radius, 0, -1.0):
            disc = Disc(
                own.row + distance * np.sin(turn), own.col + distance * np.cos(turn), radius
            )
            corner = disc.corner(made.alpha.shape[0])
            if any(hidden(layer, made.alpha, corner) > wanted for layer, _ in self.objects):
                break
            placed = disc
        if placed is not None:
            self.place(self.layer(DISTRACTOR, name, None, made, placed), placed)

    def diameter(self) -> float:
        return float(self.random.uniform(*self.level.diameter)) * self.planted.size

    def room(self, diameter: float) -> Disc | None:
        """Return a free place that lies wholly in the image, None where none was found."""
        edge = diameter / 2 + 1
        for _ in range(TRIES):
            row, col = self.random.uniform(edge, self.planted.size - edge, size=2)
            disc = Disc(float(row), float(col), diameter / 2)
            if disc.apart(self.taken):
                return disc
        return None

    def stamp(self, kind: str, name: str, disc: Disc) -> Stamp:
        angle = self.random.uniform(-self.level.angle, self.level.angle)
        return stamp(kind, name, disc.radius * 2, angle)

    def place(self, layer: Layer, disc: Disc) -> None:
        self.layers.append(layer)
        self.taken.append(disc)

    def layer(self, role: str, name: str, label: int | None, made: Stamp, disc: Disc) -> Layer:
        side = made.alpha.shape[0]
        top, left = disc.corner(side)
        first, second = self.colours(top, left, side)
        colour = first + made.tone[..., None] * (second - first)
        return Layer(role, name, label, top, left, made.alpha, colour)

    def colours(self, top: int, left: int, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return two colours, the first set off from the background there, the second from it."""
        behind = self.ground[max(top, 0) : top + side, max(left, 0) : left + side]
        mean = float((behind.reshape(-1, 3) @ LUMA).mean()) if behind.size else 127.0
        first = self.apart(mean)
        return self.coloured(first), self.coloured(self.apart(first))

    def apart(self, luma: float) -> float:
        """Return a luminance that differs by the contrast, to a side where there is room for it."""
        low, high = (255 * share for share in self.level.contrast)
        room = max(luma - DARKEST, LIGHTEST - luma)
        step = self.random.uniform(low, max(low, min(high, room)))
        ways = [w for w in (luma - step, luma + step) if DARKEST <= w <= LIGHTEST]
        return float(ways[self.random.integers(len(ways))])

    def coloured(self, luma: float) -> np.ndarray:
        """Return a random colour of a luminance, as colourful as that allows."""
        chroma = self.random.uniform(-CHROMA, CHROMA, size=3)
        chroma -= chroma @ LUMA
        room = np.where(chroma > 0, 255 - luma, luma) / np.maximum(np.abs(chroma), 1e-9)
        colour: np.ndarray = luma + min(1.0, float(room.min())) * chroma
        return colour.astype(np.float32)

    def watermark(self, label: int) -> None:
        """Paint the mark of a class: its digit on a small plate near a random corner."""
        size = self.planted.size
        width, height = (round(share * size) for share in MARK)
        alpha, colour = _mark(label, width, height)
        inset = self.random.integers(2, max(3, size // 16), size=2)
        top = inset[0] if self.random.random() < 0.5 else size - height - inset[0]
        left = inset[1] if self.random.random() < 0.5 else size - width - inset[1]
        layer = Layer(WATERMARK, f"watermark {label}", label, int(top), int(left), alpha, colour)
        reach = float(np.hypot(width, height) / 2)
        self.place(layer, Disc(top + height / 2, left + width / 2, reach))


def _mark(label: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return alpha and colour of a light plate with the digit of a class in black."""
    fine = 8
    plate = np.full((height * fine, width * fine), 235, np.uint8)
    face, scale, text = cv2.FONT_HERSHEY_SIMPLEX, height * fine / 28, str(label + 1)
    (wide, tall), _ = cv2.getTextSize(text, face, scale, 2 * fine)
    corner = ((width * fine - wide) // 2, (height * fine + tall) // 2)
    cv2.putText(plate, text, corner, face, scale, 20, 2 * fine, cv2.LINE_AA)
    small = cv2.resize(plate, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    return np.full(small.shape, MARK_ALPHA, np.float32), np.repeat(small[..., None], 3, axis=2)


def hidden(below: Layer, above: np.ndarray, corner: tuple[int, int]) -> float:
    """Return the share of a layer's coverage that another canvas (row, col) at ``corner`` hides."""
    rows, cols = below.alpha.shape
    shift = corner[0] - below.top, corner[1] - below.left
    padded = np.zeros((rows, cols), np.float32)
    Layer(DISTRACTOR, "", None, *shift, above, np.ones((*above.shape, 1), np.float32)).onto(
        padded[..., None]
    )
    return float((below.alpha * padded).sum() / below.alpha.sum())
