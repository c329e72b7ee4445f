"""Attributions of pixels and superpixels, naive, in float64, straight from the papers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from math import exp, factorial, sqrt

import numpy as np
import torch
from torch import nn
from torch.nn import functional

Score = Callable[[torch.Tensor], torch.Tensor]


class LinearModel(nn.Module):
    """Scores that are linear in the pixels, so that every attribution is known."""

    def __init__(self, size: tuple[int, int] = (8, 12)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, *size))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bcij,kcij->bk", inputs, self.weight)


class Guided(torch.autograd.Function):
    """ReLU whose backward pass lets positive gradients through only."""

    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (values,) = ctx.saved_tensors
        return gradient.clamp(min=0) * (values > 0)


class Rectified(nn.Module):
    """Two convolutions with ReLU, a global pool and a linear head.

    ``way`` says how the ReLU is used: ``module``, ``function``, ``around`` (a shortcut from its
    input), ``behind`` (a shortcut from its output) or ``gate`` (a sigmoid gate).
    """

    def __init__(self, way: str = "module", shared: bool = False, inplace: bool = False) -> None:
        super().__init__()
        self.way, self.guided = way, False
        self.first = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.act1 = nn.ReLU(inplace)
        self.act2 = self.act1 if shared else nn.ReLU(inplace)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 3)

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.first(inputs)
        kept = self._act(self.act1, hidden)
        more = self.second(kept)
        more = {"around": more + hidden, "behind": more + kept}.get(self.way, more)
        more = self._act(self.act2, more)
        return more * more.sigmoid() if self.way == "gate" else more

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.fc(self.global_pool(self.features(inputs)).flatten(1))

    def _act(self, module: nn.Module, values: torch.Tensor) -> torch.Tensor:
        if self.guided:
            return Guided.apply(values)
        return functional.relu(values) if self.way == "function" else module(values)


def value(score: Score, image: torch.Tensor) -> float:
    """y of one image (channel, row, col)."""
    with torch.no_grad():
        return float(score(image[None])[0])


def gradient(score: Score, image: torch.Tensor) -> torch.Tensor:
    """dy/dx of one image (channel, row, col)."""
    leaf = image.detach().clone().requires_grad_()
    (found,) = torch.autograd.grad(score(leaf[None])[0], leaf)
    return found


def integrated_gradients(
    score: Score, image: torch.Tensor, baseline: torch.Tensor, steps: int
) -> torch.Tensor:
    """Gauss-Legendre quadrature, written out."""
    total = torch.zeros_like(image)
    for node, weight in zip(*np.polynomial.legendre.leggauss(steps), strict=True):
        point = baseline + (node + 1) / 2 * (image - baseline)
        total += weight / 2 * gradient(score, point)
    return ((image - baseline) * total).sum(dim=0)


def occlusion(
    score: Score,
    image: torch.Tensor,
    baseline: torch.Tensor,
    window: tuple[int, int],
    stride: tuple[int, int],
) -> torch.Tensor:
    """For each pixel the mean difference over the windows that cover it."""
    _, height, width = image.shape
    total, count = torch.zeros(2, height, width, dtype=torch.float64)
    top = 0
    while True:
        left = 0
        while True:
            part = (slice(top, top + window[0]), slice(left, left + window[1]))
            covered = image.clone()
            covered[:, part[0], part[1]] = baseline[:, part[0], part[1]]
            total[part] += value(score, image) - value(score, covered)
            count[part] += 1
            if left + window[1] >= width:
                break
            left += stride[1]
        if top + window[0] >= height:
            break
        top += stride[0]
    return total / count


def shapley(game: Callable[[Sequence[int]], float], players: int) -> torch.Tensor:
    """Shapley values by the sum over all sets."""
    found = torch.zeros(players, dtype=torch.float64)
    for player in range(players):
        others = [p for p in range(players) if p != player]
        for size in range(players):
            weight = factorial(size) * factorial(players - size - 1) / factorial(players)
            for chosen in combinations(others, size):
                found[player] += weight * (game((*chosen, player)) - game(chosen))
    return found


def shown(
    image: torch.Tensor, baseline: torch.Tensor, segments: torch.Tensor, chosen: Sequence[int]
) -> torch.Tensor:
    """The image with all but the chosen superpixels replaced."""
    present = torch.isin(segments, torch.tensor(list(chosen), dtype=segments.dtype))
    return torch.where(present, image, baseline)


def lime(
    score: Score,
    image: torch.Tensor,
    segments: torch.Tensor,
    masks: torch.Tensor,
    width: float,
    ridge: float,
) -> torch.Tensor:
    """Normal equations of the weighted ridge fit on given masks (sample, superpixel)."""
    zero = torch.zeros_like(image)
    rows, weights, scores = [], [], []
    for mask in masks:
        chosen = mask.nonzero().flatten().tolist()
        scores.append(value(score, shown(image, zero, segments, chosen)))
        distance = 1 - sqrt(len(chosen) / len(mask))
        weights.append(exp(-(distance**2) / (2 * width**2)))
        rows.append([1.0, *mask.tolist()])
    design = torch.tensor(rows, dtype=torch.float64)
    weight = torch.diag(torch.tensor(weights, dtype=torch.float64))
    penalty = ridge * torch.eye(design.shape[1], dtype=torch.float64)
    penalty[0, 0] = 0
    right = design.T @ weight @ torch.tensor(scores, dtype=torch.float64)
    return torch.linalg.solve(design.T @ weight @ design + penalty, right)[1:]


def guided_gradcam(module: Rectified, image: torch.Tensor, index: int) -> torch.Tensor:
    """Guided backpropagation and Grad-CAM of the pool's input, each literally, multiplied."""
    features = module.features(image[None]).detach().requires_grad_()
    score = module.fc(features.mean(dim=(2, 3)))[0, index]
    (slope,) = torch.autograd.grad(score, features)
    cam = (slope.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True).clamp(min=0)
    large = functional.interpolate(
        cam.detach(), image.shape[1:], mode="bilinear", align_corners=False
    )
    module.guided = True
    guided = gradient(lambda inputs: module(inputs)[:, index], image)
    module.guided = False
    return (guided * large[0]).sum(dim=0)
