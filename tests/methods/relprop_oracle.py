"""Transformer attribution a second time: relprop of a timm ViT, layer by layer, in float64."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests import zoo


def over(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Division stabilised by 1e-9 with the sign of the denominator; nothing over nothing is 0."""
    sign = torch.where(denominator > 0, 1.0, -1.0)
    return torch.where(denominator == 0, 0.0, numerator / (denominator + 1e-9 * sign))


def linear(x: torch.Tensor, weight: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """z+ on ``c = x^+ W^+ + x^- W^-``."""
    pos_x, neg_x, pos_w, neg_w = (
        x.clamp(min=0),
        x.clamp(max=0),
        weight.clamp(min=0),
        weight.clamp(max=0),
    )
    share = over(relevance, pos_x @ pos_w.T + neg_x @ neg_w.T)
    return pos_x * (share @ pos_w) + neg_x * (share @ neg_w)


def linear_by_loops(x: torch.Tensor, weight: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    """The same for one token, from its definition."""
    outputs, inputs = weight.shape
    moved = torch.zeros(inputs, dtype=torch.float64)
    for j in range(outputs):
        parts = [
            max(float(x[i]), 0) * max(float(weight[j, i]), 0)
            + min(float(x[i]), 0) * min(float(weight[j, i]), 0)
            for i in range(inputs)
        ]
        for i, part in enumerate(parts):
            if sum(parts) != 0:
                moved[i] += part / (sum(parts) + 1e-9) * relevance[j]
    return moved


def addition(
    one: torch.Tensor, other: torch.Tensor, relevance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """In proportion, then rescaled to the ratio of the absolute sums and the sum of R."""
    share = over(relevance, one + other)
    a, b = one * share, other * share
    total = a.sum().abs() + b.sum().abs()
    part_a = over(a.sum().abs(), total) * relevance.sum()
    part_b = over(b.sum().abs(), total) * relevance.sum()
    return a * over(part_a, a.sum()), b * over(part_b, b.sum())


def values(
    attn: torch.Tensor, value: torch.Tensor, relevance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Identity 6 for ``O = A V``: relevance of A and of V."""
    share = over(relevance, attn @ value)
    return attn * (share @ value.mT) / 2, value * (attn.mT @ share) / 2


def dots(
    query: torch.Tensor, key: torch.Tensor, relevance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same for the unscaled scores ``Q K^T``: relevance of Q and of K."""
    share = over(relevance, query @ key.mT)
    return query * (share @ key) / 2, key * (share.mT @ query) / 2


@dataclass
class BlockPass:
    """One block's forward pass with all that relprop needs, and its relevance of A."""

    block: Any
    x: torch.Tensor

    def __post_init__(self) -> None:
        block, attn = self.block, self.block.attn
        self.normed = block.norm1(self.x)
        heads, tokens = attn.num_heads, self.x.shape[0]
        qkv = attn.qkv(self.normed).reshape(tokens, 3, heads, -1).permute(1, 2, 0, 3)
        self.query, self.key, self.value = attn.q_norm(qkv[0]), attn.k_norm(qkv[1]), qkv[2]
        scores = self.query @ self.key.mT * attn.scale
        self.attn = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
        self.heads = (self.attn @ self.value).permute(1, 0, 2).reshape(tokens, -1)
        self.branch = block.ls1(attn.proj(self.heads))
        self.between = self.x + self.branch
        self.renormed = block.norm2(self.between)
        self.hidden = block.mlp.fc1(self.renormed)
        self.active = nn.functional.gelu(self.hidden)
        self.second = block.ls2(block.mlp.fc2(self.active))
        self.out = self.between + self.second

    def relprop(self, relevance: torch.Tensor) -> torch.Tensor:
        """Return the relevance of x; that of A is kept in ``relevance_attn``."""
        mlp, attn = self.block.mlp, self.block.attn
        between, second = addition(self.between, self.second, relevance)
        hidden = linear(self.active, mlp.fc2.weight, second)
        between = between + linear(self.renormed, mlp.fc1.weight, hidden)
        x, branch = addition(self.x, self.branch, between)
        heads = linear(self.heads, attn.proj.weight, branch)
        tokens = len(self.x)
        heads = heads.reshape(tokens, attn.num_heads, -1).permute(1, 0, 2)
        self.relevance_attn, value = values(self.attn, self.value, heads)
        query, key = dots(self.query, self.key, self.relevance_attn)
        qkv = torch.stack([query, key, value]).permute(2, 0, 1, 3).reshape(tokens, -1)
        return x + linear(self.normed, attn.qkv.weight, qkv)


class Relprop:
    """Relevance of A in every block of a timm ViT, for one image and one output."""

    @torch.no_grad()
    def __init__(self, name: str, module: nn.Module, image: torch.Tensor, output: int) -> None:
        vit: Any = copy.deepcopy(zoo.unfuse(module)).double().eval()
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(image[None].double())))[0]
        blocks = []
        for block in vit.blocks:
            blocks.append(BlockPass(block, x))
            x = blocks[-1].out
        relevance = head(name, vit, x, output)
        self.entering = relevance.sum()
        for block in reversed(blocks):
            relevance = block.relprop(relevance)
        self.attn = [block.relevance_attn for block in blocks]
        self.tokens = relevance


def head(name: str, vit: Any, x: torch.Tensor, output: int) -> torch.Tensor:
    """Relevance of the tokens that enter the last norm, from one output's 1."""
    normed, relevance = vit.norm(x), torch.zeros_like(x)
    if name == "distilled":
        logits = [vit.head(normed[0]), vit.head_dist(normed[1])]
        start = torch.zeros_like(logits[0])
        start[output] = 1
        shares = addition(logits[0], logits[1], start)
        for token, layer in enumerate((vit.head, vit.head_dist)):
            relevance[token] = linear(normed[token], layer.weight, shares[token])
        return relevance
    prefix = {"mean": 0, "class_but_mean": 1}.get(name)
    pooled = normed[0] if prefix is None else normed[prefix:].mean(dim=0)
    if isinstance(vit.head, nn.Identity):
        found = torch.zeros_like(pooled)
        found[output] = 1
    else:
        start = torch.zeros(vit.head.out_features, dtype=torch.float64)
        start[output] = 1
        found = linear(vit.fc_norm(pooled), vit.head.weight, start)
    if prefix is None:
        relevance[0] = found
    else:
        part = normed[prefix:]
        relevance[prefix:] = part * over(found, part.mean(dim=0)) / len(part)
    return relevance


def attribution(
    start: torch.Tensor, attn: list[torch.Tensor], gradient: list[torch.Tensor], first: int = 0
) -> torch.Tensor:
    """``r (C - I)``, C = ``(I + E_L) ... (I + E_(s+1))``, ``E = mean_h (G * R_A)^+``."""
    eye = torch.eye(len(start), dtype=torch.float64)
    product = eye
    for relevance, slope in list(zip(attn, gradient, strict=True))[first:]:
        product = (eye + (relevance * slope).clamp(min=0).mean(dim=0)) @ product
    return start @ (product - eye)
