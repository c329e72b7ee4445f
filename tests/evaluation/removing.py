"""Cases of hand-made maps on a model that adds up its cells, and its scores by explicit loops."""

from __future__ import annotations

import math

import numpy as np
import torch

import visattn
from tests.evaluation.additive import CELL, COLS, HEIGHT, ROWS, WIDTH, additive
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.metrics import METRICS, Metric
from visattn.evaluation.sample import Sample
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.saliency import SaliencyMap
from visattn.targets import resolve

RANDOM = Trial("random", "random")


def picture(seed: int = 0, pairs: bool = False) -> torch.Tensor:
    """Return a random input; with ``pairs`` the right half repeats the left."""
    values = torch.randn(3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))
    return torch.cat([values[..., : WIDTH // 2]] * 2, -1) if pairs else values


def weights_of(model: visattn.Model) -> np.ndarray:
    return model.module.weights.double().numpy()


def contributions(model: visattn.Model, image: torch.Tensor, label: int = 0) -> np.ndarray:
    """Return what every cell adds to the score of a class (row, col), float64."""
    cells = image.double().numpy().reshape(3, ROWS, CELL, COLS, CELL).mean(axis=(2, 4)).sum(0) / 3
    return weights_of(model)[label] * cells


def case_of(
    model: visattn.Model,
    image: torch.Tensor,
    grid: np.ndarray,
    target: object = 0,
    label: int | None = 0,
    name: str = "sample",
    trial: Trial = RANDOM,
) -> Case:
    prepared = model.prepare_tensor(image)
    geometry = prepared.geometry.with_grid(Size(*grid.shape))
    output = model.run(model.stack([prepared]))
    (resolved,) = resolve([target], model, output)
    found = SaliencyMap(grid, geometry, trial.method, model.name)
    return Case(Sample(name, prepared, target, label), trial, found, output, resolved)


def metric(name: str, **options: object) -> Metric:
    return METRICS.get(name).create(name, options)


def value(model: visattn.Model, name: str, *cases: Case, **options: object) -> list[float]:
    return [each.value for each in metric(name, **options).measure(Bench(model), cases)]


def logits(weights: np.ndarray, image: np.ndarray) -> list[float]:
    """Return the scores of all classes by explicit loops over pixels."""
    found = []
    for kernel in weights:
        total = 0.0
        for channel in range(3):
            for row in range(HEIGHT):
                for col in range(WIDTH):
                    part = image[channel, row, col] / CELL**2 / 3
                    total += kernel[row // CELL, col // CELL] * part
        found.append(total)
    return found


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(each - max(values)) for each in values]
    return [each / sum(powers) for each in powers]


__all__ = ["CELL", "COLS", "ROWS", "additive"]
