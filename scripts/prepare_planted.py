"""Write the planted scenes of data/planted, from scikit-image's bundled images alone.

    python scripts/prepare_planted.py

Pictures of 384 x 384 pixels in ``scenes/``, and in ``evidence/`` a mask for each class in them,
white where its evidence is, named after both: ``scenes/star.jpg``, ``evidence/star.star.png``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.scene import Scene

SIZE, QUALITY = 384, 90
SINGLE, DOUBLE = 4, 2


def chosen() -> list[tuple[PlantedEvidence, Scene]]:
    """Return the first scenes of distinct classes with distractors."""
    found: list[tuple[PlantedEvidence, Scene]] = []
    for objects, count in ((1, SINGLE), (2, DOUBLE)):
        planted, labels = PlantedEvidence(size=SIZE, objects=objects), set[int]()
        for scene in planted.scenes(100):
            if len(labels) == objects * count:
                break
            if scene.distractors.any() and not labels & set(scene.labels):
                labels |= set(scene.labels)
                found.append((planted, scene))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("data/planted"))
    arguments = parser.parse_args()
    pictures, masks = arguments.out / "scenes", arguments.out / "evidence"
    for folder in (pictures, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for planted, scene in chosen():
        names = [planted.classes[label] for label in scene.labels]
        stem = "-and-".join(names)
        Image.fromarray(scene.image).save(pictures / f"{stem}.jpg", quality=QUALITY)
        for name, label in zip(names, scene.labels, strict=True):
            mask = scene.evidence(label).astype(np.uint8) * 255
            Image.fromarray(mask).convert("1").save(masks / f"{stem}.{name}.png", optimize=True)
        print(f"{stem}: scene {scene.index} of {planted}")


if __name__ == "__main__":
    main()
