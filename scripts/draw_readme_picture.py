"""Draw docs/images/gallery.jpg, the picture of the README, from the sample photos."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import visattn

WIDTH, MARGIN = 12.0, 0.28  # inches; room for a label under each row
PHOTOS = ("cat.jpg", "coffee.jpg", "rocket.jpg", "astronaut.jpg")
FOLDER = Path("data") / "photos"
COLUMNS: tuple[tuple[str, str, str, dict[str, Any], dict[str, Any]], ...] = (
    (
        "packaged:dinov2_small",
        "attention",
        "DINOv2-S: attention",
        {},
        {"normalization": "percentile"},
    ),
    (
        "packaged:dinov2_small",
        "rollout",
        "DINOv2-S: rollout from layer 4",
        {"start_layer": 4},
        {"normalization": "percentile"},
    ),
    (
        "packaged:dinov2_small",
        "gae",
        "DINOv2-S: gae, own embedding",
        {"target": "embedding"},
        {"normalization": "percentile"},
    ),
    ("packaged:efficientnet_lite0", "gradcam", "EfficientNet-Lite0: gradcam", {}, {}),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=Path, default=Path("docs") / "images" / "gallery.jpg")
    out = arguments.parse_args().out
    models = {spec: visattn.load_model(spec) for spec in dict.fromkeys(c[0] for c in COLUMNS)}
    photos = [visattn.load_image(FOLDER / name) for name in PHOTOS]
    ratios = [photo.size.height / photo.size.width for photo in photos]
    height = WIDTH * sum(ratios) / (len(COLUMNS) + 1) + MARGIN * len(PHOTOS)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(len(PHOTOS), len(COLUMNS) + 1, height_ratios=ratios)
    for row, name in enumerate(PHOTOS):
        show(axes[row][0], photos[row].pixels, "photo" if row == 0 else "")
        for col, (spec, method, title, options, style) in enumerate(COLUMNS, start=1):
            (found,) = visattn.explain(models[spec], FOLDER / name, method=method, **options)
            show(axes[row][col], np.asarray(found.overlay(**style)), title if row == 0 else "")
            if found.target is not None and found.target.probability is not None:
                text = f"{found.target.label} ({found.target.probability:.2f})"
                axes[row][col].set_xlabel(text, fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110, pil_kwargs={"quality": 88})
    print(out)


def show(axes: Any, pixels: Any, title: str) -> None:
    axes.imshow(pixels)
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


if __name__ == "__main__":
    main()
