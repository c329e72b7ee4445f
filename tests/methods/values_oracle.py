"""Methods of values and paths a second time: dense, float64, for one image, straight from papers.

Nothing is taken from what the package observed: values come from the modules' own weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from tests.methods import oracle

Score = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Layer:
    """x, x', x'' (token, channel); f (head, token, channel): what each value writes."""

    before: torch.Tensor
    between: torch.Tensor | None
    after: torch.Tensor
    written: torch.Tensor


class Tokens:
    """The tokens around every block of a timm transformer, and of its attention pool."""

    def __init__(self, module: nn.Module, image: torch.Tensor) -> None:
        exact = copy.deepcopy(module).double().eval()
        seen: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Callable[..., None]:
            return lambda _, given, made: seen.update({f"{name}<": given[0], f"{name}>": made})

        for name, part in exact.named_modules():
            part.register_forward_hook(keep(name))
        with torch.no_grad():
            exact(image[None].double())
        self.layers = [
            self._layer(seen, block, f"blocks.{i}") for i, block in enumerate(exact.blocks)
        ]
        self.pooled = None
        if getattr(exact, "attn_pool", None) is not None and hasattr(exact.attn_pool, "kv"):
            pool = exact.attn_pool
            values = seen["attn_pool.kv>"][0].chunk(2, dim=1)[1].detach()
            self.pooled = written(values, pool.proj.weight.detach(), pool.num_heads)

    def _layer(self, seen: dict[str, torch.Tensor], block: nn.Module, name: str) -> Layer:
        attn, width = block.attn, block.attn.qkv.weight.shape[1]
        own = seen[f"{name}.norm1>"][0] @ attn.qkv.weight[2 * width :].T
        bias = (
            attn.v_bias if getattr(attn, "v_bias", None) is not None else attn.qkv.bias[2 * width :]
        )
        weight = attn.proj.weight
        scale = getattr(getattr(block, "ls1", None), "gamma", None)
        scale = getattr(block, "gamma_1", None) if scale is None else scale
        if scale is not None:
            weight = scale[:, None] * weight
        return Layer(
            seen[f"{name}<"][0],
            seen[f"{name}.norm2<"][0],
            seen[f"{name}>"][0],
            written((own + bias).detach(), weight.detach(), attn.num_heads),
        )


def written(values: torch.Tensor, weight: torch.Tensor, heads: int) -> torch.Tensor:
    """f (head, token, channel): each head's part of the values through its part of the weight."""
    width = values.shape[1] // heads
    parts = [slice(h * width, (h + 1) * width) for h in range(heads)]
    return torch.stack([values[:, part] @ weight[:, part].T for part in parts])


def norms(attn: torch.Tensor, f: torch.Tensor, tokens: torch.Tensor | None = None) -> torch.Tensor:
    """n (row, key) from the tensor of contribution vectors (row, key, channel)."""
    vectors = torch.einsum("hij,hjd->ijd", attn, f)
    if tokens is not None:
        for i, token in enumerate(tokens):
            vectors[i, i] += token
    return vectors.norm(dim=-1)


def on_stream(name: str, row: torch.Tensor, tokens: int) -> torch.Tensor:
    """A row over the keys of the head's pool as one over the stream."""
    whole = torch.zeros(tokens, dtype=torch.float64)
    whole[0 if name in oracle.POOL_READS_PREFIX else oracle.POOLS[name][0] :] = row
    return whole


def value_norm(
    name: str, dense: oracle.Dense, tokens: Tokens, *, residual: bool = False, chain: bool = False
) -> torch.Tensor:
    count = dense.attn[0].shape[-1]
    row = None
    if name in oracle.POOLS:
        pool = norms(dense.attn[-1], tokens.pooled)
        if not chain:
            return on_stream(name, oracle.pool_query(name, pool), count)
        row = on_stream(name, oracle.pool_query(name, oracle.row_normalised(pool)), count)
    row = oracle.start(name, dense, None) if row is None else row
    matrices = [
        norms(attn, layer.written, layer.before if residual else None)
        for attn, layer in zip(dense.attn, tokens.layers, strict=False)
    ]
    if not chain:
        return row @ matrices[-1]
    product = oracle.identity(matrices[0])
    for matrix in matrices:
        step = oracle.row_normalised(matrix)
        product = (step if residual else (oracle.identity(step) + step) / 2) @ product
    return row @ product


class Path:
    """G of the last attention at K images between the mean colour (zero) and the image."""

    def __init__(self, module: nn.Module, image: torch.Tensor, steps: int, score: Score) -> None:
        self.points = [
            oracle.Dense(module, (k / (steps - 1)) * image.double(), score) for k in range(steps)
        ]

    def feedback(self, name: str) -> torch.Tensor:
        """``r mean_h ( mean_k G )^+`` over the tokens of the stream."""
        mean = sum(point.gradient[-1] for point in self.points) / len(self.points)
        matrix = mean.clamp(min=0).mean(dim=0)
        dense = self.points[-1]
        if name in oracle.POOLS:
            return on_stream(name, oracle.pool_query(name, matrix), dense.attn[0].shape[-1])
        return oracle.start(name, dense, None) @ matrix


def head_weights(attn: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """theta (head,)."""
    importance = torch.stack([(a.T @ g).abs().mean() for a, g in zip(attn, gradient, strict=True)])
    return importance / importance.sum()


def bth(name: str, path: Path, first: int = 0) -> torch.Tensor:
    dense = path.points[-1]
    matrices = [
        torch.einsum("h,hij->ij", head_weights(a, g), a)
        for a, g in zip(dense.attn, dense.gradient, strict=True)
    ]
    return perceived(name, dense, matrices, first) * path.feedback(name)


def btt(name: str, path: Path, tokens: Tokens, first: int = 0) -> torch.Tensor:
    dense = path.points[-1]
    matrices = []
    for attn, layer in zip(dense.attn, tokens.layers, strict=False):
        matrices.append(attn.mean(0) * layer.written.sum(0).norm(dim=1) / layer.before.norm(dim=1))
    if name in oracle.POOLS:
        skipped = 0 if name in oracle.POOL_READS_PREFIX else oracle.POOLS[name][0]
        lengths = tokens.layers[-1].after[skipped:].norm(dim=1)
        matrices.append(dense.attn[-1].mean(0) * tokens.pooled.sum(0).norm(dim=1) / lengths)
    return perceived(name, dense, matrices, first).abs() * path.feedback(name)


def perceived(
    name: str, dense: oracle.Dense, matrices: list[torch.Tensor], first: int
) -> torch.Tensor:
    """``r (I + B_L) ... (I + B_s)``, through the pooling head where there is one."""
    count = dense.attn[0].shape[-1]
    row = None
    if name in oracle.POOLS:
        row = on_stream(name, oracle.pool_query(name, matrices.pop()), count)
    product = oracle.identity(matrices[0])
    for matrix in matrices[first:]:
        product = (oracle.identity(matrix) + matrix) @ product
    return (oracle.start(name, dense, None) if row is None else row) @ product


def tam(name: str, path: Path, first: int = 0) -> torch.Tensor:
    dense = path.points[-1]
    means = [attn.mean(0) for attn in dense.attn]
    count = dense.attn[0].shape[-1]
    last = means.pop()
    if name in oracle.POOLS:
        state = on_stream(name, oracle.pool_query(name, last), count)
    else:
        state = oracle.start(name, dense, None) @ last
    for matrix in reversed(means[first:]):
        state = state @ (oracle.identity(matrix) + matrix)
    return state * path.feedback(name)


def transformed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """w (token,) of a module."""
    cosine = torch.nn.functional.cosine_similarity(before, after, dim=1)
    return after.norm(dim=1) / before.norm(dim=1) * cosine.softmax(dim=0)


def tokentm(
    name: str, dense: oracle.Dense, tokens: Tokens, first: int = 0, variant: str = "heads"
) -> torch.Tensor:
    layers = tokens.layers[first:]
    relevance = torch.diag(layers[0].before.norm(dim=1))
    for attn, gradient, layer in zip(
        dense.attn[first:], dense.gradient[first:], layers, strict=True
    ):
        one = oracle.identity(attn)
        if variant == "mean":
            weight = transformed(layer.before, layer.between)
            moved = attn.mean(0) * gradient.clamp(min=0).mean(0) @ torch.diag(weight)
        else:
            parts = [
                g.clamp(min=0) * (a @ torch.diag(transformed(layer.before, f)))
                for a, g, f in zip(attn, gradient, layer.written, strict=True)
            ]
            moved = torch.stack(parts).mean(0)
        mlp = one + torch.diag(transformed(layer.between, layer.after))
        relevance = mlp @ (one + moved) @ relevance
    return oracle.start(name, dense, None) @ relevance
