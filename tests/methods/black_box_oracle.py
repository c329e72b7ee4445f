"""RISE and ViT-CX a second time: loops in float64 over whole masks, straight from the papers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import combinations

import torch
from torch import nn
from torch.nn import functional

Score = Callable[[torch.Tensor], torch.Tensor]


def exact(module: nn.Module) -> nn.Module:
    return copy.deepcopy(module).double().eval().requires_grad_(False)


def probability(module: nn.Module, index: int) -> Score:
    """Return the score of inputs (1, channel, row, col)."""
    return lambda inputs: module(inputs).softmax(dim=1)[0, index]


def bilinear(grid: list[list[float]], row: float, col: float) -> float:
    """The value between the four cells around a point, in cells; the border cells go on."""
    rows, cols = len(grid), len(grid[0])
    row, col = min(max(row - 0.5, 0), rows - 1), min(max(col - 0.5, 0), cols - 1)
    top, left = int(row), int(col)
    below, right = min(top + 1, rows - 1), min(left + 1, cols - 1)
    down, over = row - top, col - left
    upper = grid[top][left] * (1 - over) + grid[top][right] * over
    lower = grid[below][left] * (1 - over) + grid[below][right] * over
    return upper * (1 - down) + lower * down


def rise_mask(bits: torch.Tensor, top: int, left: int, size: tuple[int, int]) -> torch.Tensor:
    """s x s bits enlarged to (s + 1) ceil(side / s) pixels per axis and cut at an offset."""
    s = bits.shape[0]
    grid, steps = bits.tolist(), [-(-side // s) for side in size]
    down, over = (s / ((s + 1) * step) for step in steps)
    rows = [
        [
            bilinear(grid, (row + top + 0.5) * down, (col + left + 0.5) * over)
            for col in range(size[1])
        ]
        for row in range(size[0])
    ]
    return torch.tensor(rows, dtype=torch.float64)


def rise_masks(
    count: int, s: int, p: float, size: tuple[int, int], random: torch.Generator
) -> torch.Tensor:
    """All masks (mask, row, col), drawn in the package's order: bits, row offset, col offset."""
    masks = []
    for _ in range(count):
        bits = (torch.rand(s, s, generator=random) < p).double()
        top, left = (int(torch.randint(-(-side // s), (), generator=random)) for side in size)
        masks.append(rise_mask(bits, top, left, size))
    return torch.stack(masks)


def rise(
    score: Score, image: torch.Tensor, masks: torch.Tensor, p: float, center: str = "none"
) -> torch.Tensor:
    """``1/(K p) sum_k f(x * M_k) M_k``, centred or divided by coverage."""
    scores = [score((image * mask)[None]) for mask in masks]
    mean = sum(scores) / len(scores) if center == "mean" else 0.0
    total = torch.zeros_like(masks[0])
    for mask, value in zip(masks, scores, strict=True):
        total += (value - mean) * mask
    return total / masks.sum(dim=0) if center == "coverage" else total / (len(masks) * p)


def on_tokens(vit: nn.Module, image: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """Outputs of a timm ViT whose blocks are run by hand on some tokens of one image."""
    stream = vit._pos_embed(vit.patch_embed(image[None]))
    stream = vit.norm_pre(stream)[:, tokens]
    for block in vit.blocks:
        stream = block(stream)
    outputs: torch.Tensor = vit.forward_head(vit.norm(stream))
    return outputs


def minmax(mask: torch.Tensor) -> torch.Tensor:
    return (mask - mask.min()) / (mask.max() - mask.min())


def cosine_distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(1 - (one * other).sum() / (one.norm() * other.norm()))


def complete_linkage(masks: torch.Tensor, threshold: float) -> list[list[int]]:
    """Merge the two clusters whose farthest masks are nearest, while within the threshold."""
    clusters = [[index] for index in range(len(masks))]
    while len(clusters) > 1:
        apart = {
            (one, other): max(
                cosine_distance(masks[i], masks[j]) for i in clusters[one] for j in clusters[other]
            )
            for one, other in combinations(range(len(clusters)), 2)
        }
        nearest = min(apart, key=lambda pair: apart[pair])
        if apart[nearest] > threshold:
            break
        one, other = nearest
        clusters[one] += clusters.pop(other)
    return sorted(sorted(cluster) for cluster in clusters)


def vit_cx_masks(channels: torch.Tensor, size: tuple[int, int], threshold: float) -> torch.Tensor:
    """Masks (mask, row, col) from channels (channel, row, col) of patches that cover the input."""
    large = functional.interpolate(
        channels[None].double(), size, mode="bilinear", align_corners=False
    )[0]
    masks = torch.stack([minmax(each) for each in large if each.max() > each.min()])
    clusters = complete_linkage(masks, threshold)
    return torch.stack([minmax(sum(masks[i] for i in cluster)) for cluster in clusters])


def vit_cx(
    score: Score, image: torch.Tensor, masks: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """``1/K sum_k s_k M_k / sum_k' M_k'``; ``noise`` (mask, channel, row, col)."""
    whole = score(image[None])
    total = torch.zeros_like(masks[0])
    for mask, e in zip(masks, noise, strict=True):
        kept = score((image * mask + e * (1 - mask))[None])
        lost = score((image + e * (1 - mask))[None])
        total += (kept - lost + whole) * mask
    covered = masks.sum(dim=0)
    return torch.where(covered > 0, total / covered, 0.0) / len(masks)
