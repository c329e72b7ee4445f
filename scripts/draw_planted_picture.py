"""Draw docs/images/planted.png: planted scenes, and below them evidence and distractors."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.scene import Scene

SIZE, GAP, WHITE = 240, 8, 255
EVIDENCE, SILENT = (0, 158, 115), (213, 94, 0)  # told apart also without red or green


def scenes() -> Iterator[Scene]:
    yield from (PlantedEvidence(size=SIZE).scene(index) for index in (2, 4))
    yield PlantedEvidence(size=SIZE, difficulty="easy").scene(4)
    yield PlantedEvidence(size=SIZE, difficulty="hard").scene(4)
    yield PlantedEvidence(size=SIZE, objects=2).scene(0)
    yield PlantedEvidence(size=SIZE, watermark=True).scene(9)


def marked(scene: Scene) -> np.ndarray:
    """Return the scene, dark, with evidence and distractors in colours (row, col, 3)."""
    grey = scene.image.mean(axis=-1, keepdims=True) / 2.5
    picture = np.repeat(grey, 3, axis=-1).astype(np.uint8)
    picture[scene.distractors] = SILENT
    for label in scene.labels:
        picture[scene.evidence(label)] = EVIDENCE
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/planted.png"))
    arguments = parser.parse_args()
    columns = [np.concatenate([s.image, gap(GAP, SIZE), marked(s)]) for s in scenes()]
    height = columns[0].shape[0]
    sheet = [part for column in columns for part in (column, gap(height, GAP))][:-1]
    Image.fromarray(np.concatenate(sheet, axis=1)).save(arguments.out, optimize=True)


def gap(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), WHITE, np.uint8)


if __name__ == "__main__":
    main()
