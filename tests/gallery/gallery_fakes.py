"""A small engine without torch: maps are brightness, classes are made up, failures are asked for.

Run as a script, it makes a gallery, says each step on its standard output and waits for a line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from visattn import statistics
from visattn.errors import ConfigError, ModelError, UnsupportedMethodError, VisattnError
from visattn.gallery import GalleryConfig, load_config, run_gallery
from visattn.geometry import Affine, Geometry
from visattn.images import Image, Size
from visattn.saliency import SaliencyMap, Target

METHODS = ("bright", "dark", "signed", "flat", "classes_only")
LABELS = ("cat", "dog", "</script><b>bold</b>")
INPUT = Size(64, 64)


@dataclass
class FakeModel:
    name: str
    weights_sha256: str | None = "ab" * 32

    def facts(self) -> dict[str, Any]:
        return {"name": self.name, "class": "Fake"}

    def prepare(self, image: Image) -> Any:
        height, width = image.size
        scale = min(height, width) / 64
        offset = ((height - 64 * scale) / 2, (width - 64 * scale) / 2)
        crop = Affine((scale, scale), offset)
        geometry = Geometry(Size(8, 8), INPUT, image.size, Affine((8.0, 8.0)), crop)
        return SimpleNamespace(image=image, geometry=geometry)


@dataclass
class FakeEngine:
    """``broken``: model -> error of loading; ``crash``: called with a batch's names and methods."""

    broken: dict[str, Exception] = field(default_factory=dict)
    crash: Any = None
    loaded: list[str] = field(default_factory=list)
    batches: list[tuple[str, ...]] = field(default_factory=list)
    weights: str = "ab" * 32
    answer: Any = None
    unknown: tuple[str, ...] = ()

    def class_specific(self, method: str) -> bool:
        return method in ("signed", "classes_only")

    def check(self, method: Any) -> None:
        if method.name not in METHODS:
            raise ConfigError(f"There is no method {method.name!r}.")

    def check_model(self, model: Any) -> None:
        if model.name in self.unknown:
            raise ConfigError(f"There is no model {model.name!r}.")

    def check_target(self, model: Any, methods: Sequence[Any], target: Any) -> None:
        if target == "wrong" and any(self.class_specific(method.name) for method in methods):
            raise ConfigError("target 'wrong' fails for every photo")

    def automatic(self, model: Any, target: Any) -> str:
        return "bright"

    def load(self, model: Any, device: str, seed: int) -> FakeModel:
        if model.name in self.broken:
            raise self.broken[model.name]
        self.loaded.append(model.name)
        return FakeModel(model.name, self.weights)

    def explain(
        self, model: Any, prepared: Sequence[Any], methods: Sequence[Any], target: Any, seed: int
    ) -> list[list[SaliencyMap | VisattnError]]:
        names = tuple(each.image.path.name for each in prepared)
        self.batches.append(names)
        if self.crash:
            self.crash(names, [method.name for method in methods])
        return [[self._map(model, each, method, target) for method in methods] for each in prepared]

    def probabilities(self, model: Any, prepared: Sequence[Any]) -> Any:
        if model.name.startswith("headless"):
            return None
        high = np.array([int(each.image.sha256[:2], 16) % 2 for each in prepared])
        return np.stack([1 - (0.25 + 0.5 * high), 0.25 + 0.5 * high], axis=1)

    def _map(self, model: Any, each: Any, method: Any, target: Any) -> Any:
        if method.name == "classes_only" and model.name.startswith("headless"):
            return UnsupportedMethodError(f"classes_only needs classes; {model.name} has none.")
        if self.answer:
            return self.answer(each, method)
        grid = brightness(each)
        if method.name == "dark":
            grid = 255 - grid
        if method.name == "flat":
            grid = np.zeros_like(grid)
        signed = method.name == "signed"
        if signed:
            grid = grid - grid.mean()
        index = int(each.image.sha256[:2], 16) % 2 if target is None else int(target)
        chosen = Target(index, LABELS[index], 0.25 + 0.5 * index)
        return SaliencyMap(
            grid=grid,
            geometry=each.geometry,
            method=method.name,
            model=model.name,
            signed=signed,
            target=chosen if self.class_specific(method.name) else None,
            prediction=chosen,
            statistics={
                **statistics.summary(grid),
                "prefix_mass": 0.25,
                "outlier_tokens": float("nan"),
            },
            provenance={"image": {"path": str(each.image.path), "sha256": each.image.sha256}},
        )


def brightness(each: Any) -> Any:
    """Return the mean brightness under each cell, float32 (8, 8)."""
    grid = np.zeros((8, 8), np.float32)
    for row in range(8):
        for col in range(8):
            box = each.geometry.cell_box(row, col)
            part = each.image.pixels[
                round(box.top) : max(round(box.bottom), round(box.top) + 1),
                round(box.left) : max(round(box.right), round(box.left) + 1),
            ]
            grid[row, col] = part.mean()
    return grid


def photo(path: Path, height: int = 60, width: int = 90, spot: tuple[int, int] = (15, 60)) -> Path:
    """Write a dark photo with one bright square around ``spot`` (row, col)."""
    pixels = np.full((height, width, 3), (20, 40, 30), np.uint8)
    row, col = spot
    pixels[max(0, row - 6) : row + 6, max(0, col - 6) : col + 6] = 250
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(pixels).save(path)
    return path


def settings(photos: Path, out: Path, **other: Any) -> GalleryConfig:
    given = {"input": photos, "out": out, "models": ["fake"], "methods": ["bright", "signed"]}
    return load_config(overrides={**given, "workers": 2, **other})


def bug(*_: Any) -> Any:
    """Fail as a programming error does."""
    raise ZeroDivisionError("a bug")


def no_weights() -> ModelError:
    return ModelError("the weights of second are not here")


def talk(photos: str, out: str) -> None:
    """Say every step that a kill may fall upon, and take it when a line comes in."""
    from visattn.gallery import drawing, page, pipeline, run

    turn = Lock()

    def say(text: str) -> None:
        with turn:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
            sys.stdin.readline()

    def spoken(word: str, act: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            say(f"before {word}")
            result = act(*args, **kwargs)
            say(f"after {word}")
            return result

        return step

    pipeline.draw_map = spoken("map", drawing.draw_map)
    pipeline.draw_photo = spoken("photo", drawing.draw_photo)
    run.write_page = spoken("page", page.write_page)
    os.fsync = spoken("line", os.fsync)
    models = ["fake", "headless"]
    methods = ["bright", "signed", "classes_only"]
    config = settings(Path(photos), Path(out), models=models, methods=methods, batch_size=2)
    run_gallery(config, progress=False, engine=FakeEngine())


if __name__ == "__main__":
    talk(*sys.argv[1:])
