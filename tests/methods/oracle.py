"""Formulas a second time: dense, float64, unfused, straight from the papers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from tests import zoo

READS: dict[str, Callable[[int], list[int]]] = {
    "class": lambda n: [0],
    "distilled": lambda n: [0, 1],
    "registers": lambda n: [0],
    "mean": lambda n: list(range(n)),
    "class_but_mean": lambda n: list(range(1, n)),
    "registers_mean_all": lambda n: list(range(n)),
    "headless": lambda n: [0],
    "qk_norm": lambda n: [0],
    "parallel": lambda n: [0],
    "parallel_scaling": lambda n: [0],
    "post_norm": lambda n: list(range(n)),
    "eva_class": lambda n: [0],
    "eva_mean": lambda n: list(range(1, n)),
    "eva_registers": lambda n: [0],
    "beit_mean": lambda n: list(range(1, n)),
    "beit_class": lambda n: [0],
    "beit_shared_bias": lambda n: [0],
}
POOLS = {
    "latent_pool": (0, "first"),
    "latent_pool_registers": (3, "first"),
    "refined_pool": (0, "mean"),
    "eva_latent_pool": (1, "first"),
}
POOL_READS_PREFIX = {"eva_latent_pool"}
PREFIX = {
    "class": 1, "distilled": 2, "registers": 5, "mean": 0, "class_but_mean": 1,
    "registers_mean_all": 2, "latent_pool": 0, "latent_pool_registers": 3, "refined_pool": 0,
    "headless": 1, "qk_norm": 1, "parallel": 1, "parallel_scaling": 1, "post_norm": 0,
    "eva_class": 1, "eva_mean": 1, "eva_registers": 5, "eva_latent_pool": 1, "beit_mean": 1,
    "beit_class": 1, "beit_shared_bias": 1,
}  # fmt: skip


@contextmanager
def collected_softmaxes() -> Iterator[list[torch.Tensor]]:
    """Collect what ``Tensor.softmax`` returns: the weights of unfused attention, in order."""
    found: list[torch.Tensor] = []
    plain = torch.Tensor.softmax

    def softmax(tensor: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        found.append(plain(tensor, *args, **kwargs))
        return found[-1]

    torch.Tensor.softmax = softmax  # type: ignore[method-assign]
    try:
        yield found
    finally:
        torch.Tensor.softmax = plain  # type: ignore[method-assign]


class Dense:
    """Explicit attention A and its gradient G of every operation, for one image, in float64."""

    def __init__(
        self,
        module: nn.Module,
        image: torch.Tensor,
        score: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        exact = zoo.unfuse(copy.deepcopy(module)).double().eval()
        inputs = image[None].double().requires_grad_()
        with collected_softmaxes() as weights:
            outputs = exact(inputs)
        y = outputs[0].max() if score is None else score(outputs).sum()
        gradients = torch.autograd.grad(y, weights)
        self.attn = [a[0].detach() for a in weights]
        self.gradient = [g[0] for g in gradients]
        self.outputs = outputs.detach()

    def blocks(self, per_block: int = 1, pooled: bool = False) -> range:
        last = len(self.attn) - (1 if pooled else 0)
        return range(0, last, per_block)


def identity(matrix: torch.Tensor) -> torch.Tensor:
    return torch.eye(matrix.shape[-1], dtype=torch.float64)


def row_normalised(matrix: torch.Tensor) -> torch.Tensor:
    return matrix / matrix.sum(dim=-1, keepdim=True)


def start(name: str, dense: Dense, pool_row: torch.Tensor | None) -> torch.Tensor:
    """The read-out row r0 over the stream's tokens, written by hand for each model."""
    tokens = dense.attn[0].shape[-1]
    row = torch.zeros(tokens, dtype=torch.float64)
    if pool_row is not None:
        offset = 0 if name in POOL_READS_PREFIX else POOLS[name][0]
        row[offset:] = pool_row
        return row
    read = READS[name](tokens)
    row[read] = 1 / len(read)
    return row


def pool_query(name: str, matrix: torch.Tensor) -> torch.Tensor:
    """Row of the pooling attention that the head reads: its first query, or the mean of all."""
    return matrix[0] if POOLS[name][1] == "first" else matrix.mean(dim=0)


def fuse(attn: torch.Tensor, heads: str) -> torch.Tensor:
    return {"mean": attn.mean(0), "max": attn.amax(0), "min": attn.amin(0)}[heads]


def rollout(
    name: str, dense: Dense, *, heads: str = "mean", residual: float = 0.5, first: int = 0
) -> torch.Tensor:
    """``r0 T_L ... T_1`` with ``T = rownorm(rho I + (1 - rho) fuse A)``."""
    pooled, step = name in POOLS, 2 if name == "parallel" else 1
    product = None
    for index in list(dense.blocks(step, pooled))[first:]:
        parts = []
        for attn in dense.attn[index : index + step]:
            fused = fuse(attn, heads)
            parts.append(row_normalised(residual * identity(fused) + (1 - residual) * fused))
        matrix = torch.stack(parts).mean(0)
        product = matrix if product is None else matrix @ product
    assert product is not None
    pool = pool_query(name, row_normalised(fuse(dense.attn[-1], heads))) if pooled else None
    return start(name, dense, pool) @ product


def gae(name: str, dense: Dense, first: int = 0) -> torch.Tensor:
    """``r0 (R - I)``, R = ``(I + E_L) ... (I + E_1)``, ``E = mean_h (G * A)^+``.

    A pooling row is relevance itself, not an identity, and stays: ``r0 E_pool R``.
    """
    pooled, step = name in POOLS, 2 if name == "parallel" else 1
    relevance = identity(dense.attn[0])
    positive = [
        (g * a).clamp(min=0).mean(0) for a, g in zip(dense.attn, dense.gradient, strict=True)
    ]
    for index in list(dense.blocks(step, pooled))[first:]:
        relevance = relevance + sum(positive[index : index + step]) @ relevance
    pool = pool_query(name, positive[-1]) if pooled else None
    row = start(name, dense, pool)
    return row @ relevance if pooled else row @ (relevance - identity(relevance))


def attention(name: str, dense: Dense, heads: str = "mean") -> torch.Tensor:
    """The read-out row of the last layer, or the pooling head's own row."""
    if name in POOLS:
        pool = pool_query(name, fuse(dense.attn[-1], heads))
        return start(name, dense, pool)
    last = dense.attn[-2:] if name == "parallel" else dense.attn[-1:]
    return start(name, dense, None) @ torch.stack([fuse(a, heads) for a in last]).mean(0)
