"""Class activation maps a second time: loops over channels and positions, numpy, float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

Array = np.ndarray
Score = Callable[[torch.Tensor], torch.Tensor]


def positions(x: Array) -> list[tuple[int, int]]:
    return [(i, j) for i in range(x.shape[1]) for j in range(x.shape[2])]


def weighted(weights: Array, x: Array) -> Array:
    """``sum_c w_c X_c`` before any clamp."""
    total = np.zeros(x.shape[1:])
    for c in range(len(x)):
        total += weights[c] * x[c]
    return total


def positive(values: Array) -> Array:
    return np.maximum(values, 0)


def gradcam(x: Array, g: Array) -> Array:
    return positive(weighted(np.array([g[c].mean() for c in range(len(x))]), x))


def gradcam_plusplus(x: Array, g: Array) -> Array:
    weights = np.zeros(len(x))
    for c in range(len(x)):
        total = sum(x[c, a, b] for a, b in positions(x))
        for i, j in positions(x):
            slope = g[c, i, j]
            if slope == 0:
                continue
            below = 2 * slope**2 + total * slope**3
            weights[c] += slope**2 / below * max(slope, 0)
    return positive(weighted(weights, x))


def xgradcam_weights(x: Array, g: Array) -> Array:
    weights = np.zeros(len(x))
    for c in range(len(x)):
        measure = sum(x[c, i, j] for i, j in positions(x))
        for i, j in positions(x):
            weights[c] += g[c, i, j] * x[c, i, j] / measure if measure else 0
    return weights


def xgradcam(x: Array, g: Array) -> Array:
    return positive(weighted(xgradcam_weights(x, g), x))


def hirescam(x: Array, g: Array) -> Array:
    total = np.zeros(x.shape[1:])
    for i, j in positions(x):
        for c in range(len(x)):
            total[i, j] += g[c, i, j] * x[c, i, j]
    return positive(total)


def layercam(x: Array, g: Array) -> Array:
    total = np.zeros(x.shape[1:])
    for i, j in positions(x):
        for c in range(len(x)):
            total[i, j] += max(g[c, i, j], 0) * x[c, i, j]
    return positive(total)


def eigencam(x: Array) -> Array:
    matrix = x.reshape(len(x), -1).T
    centred = matrix - matrix.mean(axis=0)
    component = centred @ np.linalg.svd(centred, full_matrices=False)[2][0]
    return component.reshape(x.shape[1:])


GRADIENT = {
    "gradcam": gradcam,
    "gradcam_plusplus": gradcam_plusplus,
    "xgradcam": xgradcam,
    "hirescam": hirescam,
    "layercam": layercam,
}


def bilinear(maps: Array, size: tuple[int, int], cell: tuple[float, float]) -> Array:
    """Maps (channel, row, col) of cells at the centres of an input's pixels, edges continued."""
    _, rows, cols = maps.shape
    found = np.zeros((len(maps), *size))
    for row in range(size[0]):
        for col in range(size[1]):
            y = min(max((row + 0.5) / cell[0] - 0.5, 0), rows - 1)
            x = min(max((col + 0.5) / cell[1] - 0.5, 0), cols - 1)
            top, left = int(y), int(x)
            low, right = min(top + 1, rows - 1), min(left + 1, cols - 1)
            over = maps[:, top, left] * (1 - (x - left)) + maps[:, top, right] * (x - left)
            under = maps[:, low, left] * (1 - (x - left)) + maps[:, low, right] * (x - left)
            found[:, row, col] = over * (1 - (y - top)) + under * (y - top)
    return found


def scorecam(
    module: nn.Module, image: torch.Tensor, score: Score, x: Array, cell: tuple[float, float]
) -> Array:
    """One forward pass per channel; the blank input is written out, though it cancels."""
    exact, pixels = copy.deepcopy(module).double().eval(), image[None].double()
    with torch.no_grad():
        blank = float(score(exact(pixels * 0)))
        gains, masks = np.zeros(len(x)), bilinear(x, tuple(pixels.shape[2:]), cell)
        for c in range(len(x)):
            mask = masks[c]
            span = mask.max() - mask.min()
            mask = (mask - mask.min()) / span if span > 1e-6 * abs(mask).max() else mask * 0
            gains[c] = float(score(exact(pixels * torch.from_numpy(mask)))) - blank
    powers = np.exp(gains - gains.max())
    return positive(weighted(powers / powers.sum(), x))


def ablationcam_weights(
    module: nn.Module,
    image: torch.Tensor,
    score: Score,
    part: str,
    zero: Callable[[torch.Tensor, int], None],
    channels: int,
    side: str = "output",
) -> Array:
    """Zero one channel at a time: ``zero(activation, c)`` does it in place."""
    exact, pixels = copy.deepcopy(module).double().eval(), image[None].double()
    place, chosen = dict(exact.named_modules())[part], [-1]

    def changed(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        if chosen[0] >= 0:
            zero(value, chosen[0])
        return value

    if side == "output":
        place.register_forward_hook(lambda _, __, output: changed(output))
    else:
        place.register_forward_pre_hook(lambda _, inputs: (changed(inputs[0]),))
    weights = np.zeros(channels)
    with torch.no_grad():
        whole = float(score(exact(pixels)))
        for c in range(channels):
            chosen[0] = c
            weights[c] = (whole - float(score(exact(pixels)))) / abs(whole)
    return weights


def parts(
    module: nn.Module, image: torch.Tensor, score: Score, part: str, side: str = "output"
) -> tuple[torch.Tensor, torch.Tensor]:
    """The activation of a module and the score's gradient by it, of one image, in float64."""
    exact, seen = copy.deepcopy(module).double().eval(), []
    place = dict(exact.named_modules())[part]
    if side == "output":
        place.register_forward_hook(lambda _, __, output: seen.append(output))
    else:
        place.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    y = score(exact(image[None].double().requires_grad_())).sum()
    (gradient,) = torch.autograd.grad(y, seen)
    return seen[0][0].detach(), gradient[0]
