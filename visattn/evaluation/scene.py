"""Scene: an image put together from layers, so that every layer can be taken out again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from visattn.errors import ConfigError

OBJECT, DISTRACTOR, WATERMARK = "object", "distractor", "watermark"


@dataclass(frozen=True, eq=False)
class Layer:
    """Something painted on the background.

    Attributes:
        role: ``object`` (of a class), ``distractor`` (of no class) or ``watermark``.
        name: what it is: ``star``, ``checks``, ``watermark 3``.
        label: the class that it makes the scene have, None where it says nothing of the class.
        top: first row of its canvas in the image; negative where it is cut off.
        left: first column.
        alpha: (row, col) float32 in 0..1, how much of a pixel it covers.
        colour: (row, col, 3) float32 in 0..255.
    """

    role: str
    name: str
    label: int | None
    top: int
    left: int
    alpha: np.ndarray
    colour: np.ndarray

    def onto(self, canvas: np.ndarray) -> None:
        """Paint the layer on a canvas (row, col, 3), in place; nothing where it lies outside."""
        rows, cols = (
            slice(max(start, 0), min(start + extent, side))
            for start, extent, side in zip(
                (self.top, self.left), self.alpha.shape, canvas.shape[:2], strict=True
            )
        )
        if rows.start >= rows.stop or cols.start >= cols.stop:
            return
        own = (
            slice(rows.start - self.top, rows.stop - self.top),
            slice(cols.start - self.left, cols.stop - self.left),
        )
        alpha = self.alpha[own][..., None]
        canvas[rows, cols] += alpha * (self.colour[own] - canvas[rows, cols])


@dataclass(frozen=True, eq=False)
class Scene:
    """An image whose evidence is known, because it is known what was painted.

    Attributes:
        background: (row, col, 3) float32 in 0..255.
        layers: from the lowest to the highest.
        labels: classes in the scene, one for each object; for a watermark the one that it stands
            for; nothing for a scene without evidence.
        index: its number in the generator.
    """

    background: np.ndarray
    layers: tuple[Layer, ...]
    labels: tuple[int, ...]
    index: int

    @property
    def image(self) -> np.ndarray:
        """The picture, (row, col, 3) uint8."""
        return self.painted(self.layers)

    @property
    def label(self) -> int:
        """The only class; raises `ConfigError` for scenes with none or several."""
        if len(self.labels) != 1:
            raise ConfigError(
                f"Scene {self.index} has {len(self.labels)} classes, not one: use labels."
            )
        return self.labels[0]

    @property
    def distractors(self) -> np.ndarray:
        """Pixels (row, col) that change when everything that says nothing of a class is removed."""
        return self._changed(self.without_distractors())

    def evidence(self, label: int | None = None) -> np.ndarray:
        """Return the pixels (row, col) that change when the evidence of a class is painted over.

        These are the visible pixels of what makes the scene have the class ``label``; None is the
        only class. Raises `ConfigError` for a class that is not in the scene.
        """
        return self._changed(self.without_evidence(self._present(label)))

    def without_evidence(self, label: int | None = None) -> np.ndarray:
        """Return the picture without the evidence of a class, or of all: background is there."""
        gone = set(self.labels) if label is None else {self._present(label)}
        return self.painted(layer for layer in self.layers if layer.label not in gone)

    def without_distractors(self) -> np.ndarray:
        """Return the picture with nothing but the evidence on the background."""
        return self.painted(layer for layer in self.layers if layer.label is not None)

    def painted(self, layers: Iterable[Layer]) -> np.ndarray:
        """Return the background with some of the layers, (row, col, 3) uint8."""
        canvas = self.background.copy()
        for layer in layers:
            layer.onto(canvas)
        picture: np.ndarray = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
        return picture

    def _present(self, label: int | None) -> int:
        label = self.label if label is None else label
        if label not in self.labels:
            raise ConfigError(f"Class {label} is not in scene {self.index}: it has {self.labels}.")
        return label

    def _changed(self, without: np.ndarray) -> np.ndarray:
        changed: np.ndarray = (self.image != without).any(axis=-1)
        return changed
