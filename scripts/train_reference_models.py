"""Train a reference model on planted shapes, check what it relies on, and write its card.

    python scripts/train_reference_models.py vit
    python scripts/train_reference_models.py cbam
    python scripts/train_reference_models.py cbam --watermark --steps 400 --out out/reference

Deterministic from the seed, for one number of threads on one machine. Less than 30 minutes each on
two cores. `data/reference` gets the weights and, as JSON, what was measured.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import timm
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.scene import Scene
from visattn.models.reference import MEAN, REFERENCE, SIDE, architecture

BATCH = 64
GRID, CELL, COVERED = 12, SIDE // 12, 0.25
WORKERS = 1
MIXTURE = ("easy", *["default"] * 4, "easy", *["default"] * 3, "hard")
OBJECTS = (1, 1, 2, 1, 1, 0, 1, 1, 2, 1)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        steps: of `BATCH` scenes, none of which is seen twice.
        rate: highest learning rate of AdamW; linear warm-up, then a cosine to zero.
        second: decay of AdamW's second moment.
        tokens: share of the steps in which patch tokens, too, are told what covers them, with a
            weight that falls from one to zero (token labelling: Jiang et al., NeurIPS 2021). The
            layer that says so is thrown away.
        decay: weight decay of AdamW, of matrices only.
        easy: share of the steps, at the beginning, in which all scenes are easy.
    """

    steps: int
    rate: float
    second: float
    tokens: float = 0.0
    decay: float = 0.05
    easy: float = 0.25


RECIPES = {
    "vit": Recipe(2000, 2e-3, 0.95, tokens=0.5),
    "cbam": Recipe(2000, 3e-3, 0.999),
}


class Stream(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """Training scenes by number, with the share of each class, and the class of each token.

    After an easy beginning two of ten scenes are easy, seven default and one is hard. Of ten
    scenes seven have one object, two have two and one has none: objects of one scene share the
    target evenly, and a scene without evidence is evenly of all classes. With a watermark every
    scene has one mark and one object.
    """

    def __init__(self, recipe: Recipe, watermark: bool, seed: int) -> None:
        self.recipe, self.watermark, self.seed = recipe, watermark, seed

    def __len__(self) -> int:
        return self.recipe.steps * BATCH

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        beginning = index < round(self.recipe.easy * len(self))
        planted = PlantedEvidence(
            difficulty="easy" if beginning else MIXTURE[index // 10 % 10],
            size=SIDE,
            objects=1 if self.watermark else OBJECTS[index % 10],
            watermark=self.watermark,
            training=True,
            seed=self.seed,
        )
        scene = planted.scene(index)
        present = scene.labels or range(len(planted.classes))
        target = torch.zeros(len(planted.classes))
        target[list(present)] = 1 / len(present)
        covers = covering(scene, len(planted.classes)) if self.recipe.tokens else np.zeros(0, int)
        return torch.from_numpy(scene.image), target, torch.from_numpy(covers)


def covering(scene: Scene, nothing: int) -> np.ndarray:
    """Return the class whose evidence covers enough of each token (token,), else ``nothing``."""
    found = np.full(GRID * GRID, nothing)
    for label in scene.labels:
        shares = scene.evidence(label).reshape(GRID, CELL, GRID, CELL).mean(axis=(1, 3))
        found[shares.ravel() > COVERED] = label
    return found


def prepared(images: torch.Tensor) -> torch.Tensor:
    """Return what the model sees (batch, channel, row, col) of uint8 (batch, row, col, channel)."""
    return (images.permute(0, 3, 1, 2).float() / 255 - MEAN[0]) / MEAN[0]


def train(name: str, recipe: Recipe, watermark: bool, seed: int) -> Any:
    torch.manual_seed(seed)
    module = architecture(name)
    teacher = TokenTeacher(module.num_features, module.num_classes)
    groups = _groups([*module.parameters(), *teacher.parameters()], recipe.decay)
    optimizer = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, recipe.second))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, recipe.steps))
    loader = DataLoader(Stream(recipe, watermark, seed), BATCH, num_workers=WORKERS)
    average, start = 0.0, time.perf_counter()
    for step, (images, targets, covers) in enumerate(loader):
        features = module.forward_features(prepared(images))
        loss = cross_entropy(module.forward_head(features), targets)
        average += (float(loss.detach()) - average) / min(step + 1, 100)
        weight = 1 - step / (recipe.tokens * recipe.steps) if recipe.tokens else 0.0
        if weight > 0:
            loss = loss + weight * teacher(features, covers)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        if step % 100 == 99:
            seconds = time.perf_counter() - start
            print(f"{name} {step + 1} loss {average:.3f} {seconds:.0f} s", flush=True)
    return module.eval()


class TokenTeacher(torch.nn.Module):
    """The loss of patch tokens that say which object covers them, or that none does."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(width, classes + 1)
        self.weights = torch.tensor([1.0] * classes + [0.2])  # most tokens are background

    def forward(self, features: torch.Tensor, covers: torch.Tensor) -> torch.Tensor:
        said = self.layer(features[:, 1:]).flatten(0, 1)
        return cross_entropy(said, covers.flatten(), self.weights)


def _groups(parameters: Sequence[torch.nn.Parameter], decay: float) -> list[dict[str, Any]]:
    """Return parameters with weight decay for matrices only."""
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 20)
    return (
        (step + 1) / warm
        if step < warm
        else (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
    )


def accuracy(module: Any, pictures: Iterator[tuple[np.ndarray, int]]) -> float:
    """Return the share of pictures (row, col, 3) whose class has the highest score."""
    found = list(pictures)
    hits = 0
    for start in range(0, len(found), BATCH):
        part = found[start : start + BATCH]
        images = torch.from_numpy(np.stack([picture for picture, _ in part]))
        labels = torch.tensor([label for _, label in part])
        with torch.no_grad():
            hits += int((module(prepared(images)).argmax(dim=1) == labels).sum())
    return hits / len(found)


def several(module: Any, scenes: list[Scene]) -> float:
    """Return the share of the classes in scenes that are among as many highest scores."""
    images = torch.from_numpy(np.stack([scene.image for scene in scenes]))
    with torch.no_grad():
        scores = torch.cat([module(prepared(part)) for part in torch.split(images, BATCH)])
    hits = [
        len(set(row.topk(len(scene.labels)).indices.tolist()) & set(scene.labels))
        for row, scene in zip(scores, scenes, strict=True)
    ]
    return sum(hits) / sum(len(scene.labels) for scene in scenes)


def checked(module: Any, watermark: bool, seed: int, count: int) -> dict[str, float]:
    """Return accuracies on held-out scenes, whole and with one part painted over."""
    options: dict[str, Any] = {"size": SIDE, "watermark": watermark, "seed": seed}
    scenes = list(PlantedEvidence(**options).scenes(count))
    found = {
        "default": accuracy(module, ((s.image, s.label) for s in scenes)),
        "evidence painted over": accuracy(
            module, ((s.without_evidence(), s.label) for s in scenes)
        ),
        "distractors painted over": accuracy(
            module, ((s.without_distractors(), s.label) for s in scenes)
        ),
    }
    for level in ("easy", "hard"):
        others = PlantedEvidence(difficulty=level, **options).scenes(count)
        found[level] = accuracy(module, ((s.image, s.label) for s in others))
    if not watermark:
        found["two objects"] = several(
            module, list(PlantedEvidence(objects=2, **options).scenes(count))
        )
    return found


def processor_minutes() -> float:
    """Return the minutes that this process and those that drew its scenes have computed."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) / 60


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=REFERENCE)
    parser.add_argument("--watermark", action="store_true", help="train on the spurious cue")
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scenes", type=int, default=4000, help="of each check")
    parser.add_argument("--out", type=Path, default=Path("data/reference"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    recipe = RECIPES[arguments.model]
    if arguments.steps is not None:
        recipe = replace(recipe, steps=arguments.steps)
    start = time.perf_counter()
    module = train(arguments.model, recipe, arguments.watermark, arguments.seed)
    minutes, processor = (time.perf_counter() - start) / 60, processor_minutes()
    name = arguments.model + ("-watermark" if arguments.watermark else "")
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{name}.safetensors"
    safetensors.torch.save_file(module.state_dict(), path)
    facts = {
        "recipe": {**asdict(recipe), "batch": BATCH, "seed": arguments.seed},
        "parameters": sum(p.numel() for p in module.parameters()),
        "bytes": path.stat().st_size,
        "minutes": round(minutes, 1),
        "processor_minutes": round(processor, 1),
        "threads": arguments.threads,
        "versions": {
            "python": platform.python_version(),
            "timm": timm.__version__,
            "torch": torch.__version__,
        },
        "scenes": arguments.scenes,
        "accuracy": checked(module, arguments.watermark, arguments.seed, arguments.scenes),
    }
    (arguments.out / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
