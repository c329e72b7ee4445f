"""Attention times gradient a second time: dense, float64, unfused, straight from the papers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tests import zoo
from tests.methods import oracle, steps_oracle
from visattn.adapters import Chain, Placement, Step
from visattn.observation import AttentionRecord

Score = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def collected_scores() -> Iterator[list[torch.Tensor]]:
    """Collect what enters ``Tensor.softmax``: the scores of unfused attention, in order."""
    found: list[torch.Tensor] = []
    plain = torch.Tensor.softmax

    def softmax(tensor: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        found.append(tensor)
        return plain(tensor, *args, **kwargs)

    torch.Tensor.softmax = softmax  # type: ignore[method-assign]
    try:
        yield found
    finally:
        torch.Tensor.softmax = plain  # type: ignore[method-assign]


class Graph:
    """One image through an unfused float64 model, everything still in the graph."""

    def __init__(
        self, module: nn.Module, image: torch.Tensor, detach_attention: bool = False
    ) -> None:
        self.module = zoo.unfuse(copy.deepcopy(module)).double().eval()
        self.before: list[torch.Tensor] = []
        self.after: list[torch.Tensor] = []
        for block in self.module.blocks:
            block.register_forward_pre_hook(lambda _, inputs: self.before.append(inputs[0]))
            block.register_forward_hook(lambda _, __, output: self.after.append(output))
            if detach_attention:
                block.attn.register_forward_pre_hook(
                    lambda _, inputs: (inputs[0].detach(), *inputs[1:])
                )
        with collected_scores() as scores, oracle.collected_softmaxes() as weights:
            self.outputs = self.module(image[None].double().requires_grad_())
        self.scores = [s[0].detach() for s in scores]
        self.weights = weights
        self.attn = [a[0].detach() for a in weights]

    def gradients(self, y: torch.Tensor, of: list[torch.Tensor]) -> list[torch.Tensor]:
        """Derivatives of y, for the one image."""
        found = torch.autograd.grad(y, of, retain_graph=True, allow_unused=True)
        pairs = zip(found, of, strict=True)
        return [torch.zeros_like(t)[0] if g is None else g[0] for g, t in pairs]


def positive(name: str, dense: oracle.Dense) -> list[torch.Tensor]:
    """``(mean_h A * G)^+`` of every operation: ReLU after the head mean."""
    return [(a * g).mean(0).clamp(min=0) for a, g in zip(dense.attn, dense.gradient, strict=True)]


def discarded(matrix: torch.Tensor, ratio: float, prefix: int) -> torch.Tensor:
    kept = matrix.clone()
    patches = kept[prefix:, prefix:]
    patches[patches < torch.quantile(patches.flatten(), ratio)] = 0.0
    return kept


def grad_rollout(
    name: str, dense: oracle.Dense, first: int = 0, ratio: float = 0.0
) -> torch.Tensor:
    """``r0 T_L ... T_1`` with ``T = rownorm(I + W)``."""
    pooled, step = name in oracle.POOLS, 2 if name == "parallel" else 1
    product = oracle.identity(dense.attn[0])
    matrices = positive(name, dense)
    for index in list(dense.blocks(step, pooled))[first:]:
        parts = []
        for matrix in matrices[index : index + step]:
            kept = discarded(matrix, ratio, oracle.PREFIX[name]) if ratio else matrix
            parts.append(oracle.row_normalised(oracle.identity(kept) + kept))
        product = torch.stack(parts).mean(0) @ product
    pool = oracle.pool_query(name, oracle.row_normalised(matrices[-1])) if pooled else None
    return oracle.start(name, dense, pool) @ product


def reading_row(name: str, dense: Any) -> torch.Tensor:
    """The row that reads the blocks: the read-out, or the pooling head's mean weights."""
    pool = oracle.pool_query(name, dense.attn[-1].mean(0)) if name in oracle.POOLS else None
    return oracle.start(name, dense, pool)


def gathered(name: str, dense: Any, matrices: list[torch.Tensor]) -> torch.Tensor:
    """``sum_l sum_h r_l M_lh``, the pooling head's own operation last."""
    row = reading_row(name, dense)
    pooled = name in oracle.POOLS
    blocks = matrices[:-1] if pooled else matrices
    total = sum(row @ matrix.sum(0) for matrix in blocks)
    assert isinstance(total, torch.Tensor)
    if pooled:
        own = oracle.pool_query(name, matrices[-1].sum(0))
        total = total + oracle.start(name, dense, own)
    return total


def grad_sam(name: str, dense: oracle.Dense, rows: str) -> torch.Tensor:
    """Mean over (l, h, i) of ``A * (G)^+``, or over (l, h) of its read-out row."""
    matrices = [a * g.clamp(min=0) for a, g in zip(dense.attn, dense.gradient, strict=True)]
    if rows == "readout":
        return gathered(name, dense, matrices) / sum(len(m) for m in matrices)
    total = torch.zeros(dense.attn[0].shape[-1], dtype=torch.float64)
    for matrix in matrices:
        keys = matrix.sum(dim=(0, 1))
        total[len(total) - len(keys) :] += keys
    return total / sum(m.shape[0] * m.shape[1] for m in matrices)


def agcam(name: str, graph: Graph, y: torch.Tensor) -> torch.Tensor:
    """``sum_l sum_h r (G)^+ sigmoid(S)``."""
    gradients = graph.gradients(y, graph.weights)
    matrices = [g.clamp(min=0) * s.sigmoid() for g, s in zip(gradients, graph.scores, strict=True)]
    return gathered(name, graph, matrices)


def attcat(graph: Graph, y: torch.Tensor, tokens: str) -> torch.Tensor:
    """``sum_l a_l c_l``."""
    states = graph.after if tokens == "output" else graph.before
    gradients = graph.gradients(y, states)
    total = torch.zeros(states[0].shape[1], dtype=torch.float64)
    for attn, state, gradient in zip(graph.attn, states, gradients, strict=False):
        total += attn.mean(dim=(0, 1)) * (state[0].detach() * gradient).sum(dim=-1)
    return total


def head_of(name: str, vit: Any, tokens: torch.Tensor) -> torch.Tensor:
    """The head on pooled tokens: the mean over all of them, or the pool's own attention."""
    if name in oracle.POOLS:
        skipped = 0 if name in oracle.POOL_READS_PREFIX else oracle.PREFIX[name]
        pooled = vit.attn_pool(vit.norm(tokens)[:, skipped:])
    else:
        pooled = vit.norm(tokens.mean(dim=1))
    pooled = vit.fc_norm(pooled)
    if name == "distilled":
        return (vit.head(pooled) + vit.head_dist(pooled)) / 2
    classified: torch.Tensor = vit.head(pooled)
    return classified


def legrad(name: str, graph: Graph, score: Score, layers: list[int]) -> torch.Tensor:
    """``mean_l E_l``: positive gradients of each layer's own score."""
    found = []
    for layer in layers:
        tokens = graph.after[layer]
        if name in oracle.POOLS:
            with oracle.collected_softmaxes() as pools:
                y = score(head_of(name, graph.module, tokens.detach().requires_grad_())).sum()
            (gradient,) = graph.gradients(y, pools)
            row = oracle.pool_query(name, gradient.clamp(min=0).mean(0))
            found.append(oracle.start(name, graph, row))
            continue
        y = score(head_of(name, graph.module, tokens)).sum()
        (gradient,) = graph.gradients(y, [graph.weights[layer]])
        found.append(gradient.clamp(min=0).mean(dim=(0, 1)))
    return torch.stack(found).mean(dim=0)


def parts_of(
    record: AttentionRecord, placement: Placement, index: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, their gradient and scores (window, head, query, key) of one image, float64."""
    operation = record.placed(placement)
    everything = torch.arange(operation.shape[2])
    gradient = operation.gradient_rows(everything)
    assert gradient is not None
    scores = torch.zeros_like(gradient)
    if operation.query is not None:
        scores = operation.query @ operation.key.transpose(-2, -1) * operation.scale
        scores = scores if operation.bias is None else scores + operation.bias
    attn, gradient, scores = (
        part.double().reshape(-1, placement.windows, *part.shape[1:])[index]
        for part in (operation.weights(), gradient, scores)
    )
    return attn, gradient, scores


def grad_rollout_matrix(record: AttentionRecord, step: Step, index: int) -> torch.Tensor:
    """``rownorm(S + Q W K)``, slot by slot; tokens that do not attend pass through S."""
    if not step.placements:
        assert step.skip is not None
        return step.skip.matrix()
    found = []
    for placement in step.placements:
        attn, gradient, _ = parts_of(record, placement, index)
        weights = steps_oracle.block_diagonal((attn * gradient).mean(1).clamp(min=0))
        own = 0.0 if step.skip is None else 1.0
        scale = 1 / (own + weights.sum(dim=1))
        scale[scale.isinf()] = 0.0
        queries = placement.queries.matrix() * scale
        matrix = queries @ weights @ placement.keys.matrix()
        if step.skip is not None:
            passes = 1 - placement.queries.sums + queries.sum(dim=1)
            matrix = matrix + passes[:, None] * step.skip.matrix()
        found.append(matrix)
    return torch.stack(found).mean(dim=0)


def grad_rollout_walk(chain: Chain, record: AttentionRecord, index: int) -> torch.Tensor:
    row = steps_oracle.start(chain)
    if chain.pool is not None:
        row = row @ grad_rollout_matrix(record, chain.pool, index)
    product = torch.eye(chain.layout.tokens, dtype=torch.float64)
    for step in chain.steps:
        product = grad_rollout_matrix(record, step, index) @ product
    return (row @ product)[chain.layout.places]


def gathered_walk(
    chain: Chain, record: AttentionRecord, index: int, made: str, row: torch.Tensor | None
) -> torch.Tensor:
    """Sum over layers of ``r Q M K`` brought to the finest grid; ``row`` None: 1 per query."""
    total, pairs = torch.zeros(chain.layout.tokens, dtype=torch.float64), 0
    steps = [*chain.steps, *([chain.pool] if chain.pool else [])]
    for place, step in reversed(list(enumerate(steps))):
        down = torch.eye(step.before.tokens, dtype=torch.float64)
        for earlier in reversed(chain.steps[:place]):
            down = down @ steps_oracle.residual(earlier)
        for placement in step.placements:
            attn, gradient, scores = parts_of(record, placement, index)
            matrix = gradient.clamp(min=0) * (attn if made == "grad_sam" else scores.sigmoid())
            summed = steps_oracle.block_diagonal(matrix.sum(1))
            real = placement.queries.matrix().sum(dim=0) > 0
            slots = real.double() if row is None else row @ placement.queries.matrix()
            total += slots @ summed @ placement.keys.matrix() @ down
            pairs += attn.shape[1] * int(real.sum())
        if row is not None and step is chain.pool:
            pool = [steps_oracle.dense(record, placed, index) for placed in step.placements]
            row = row @ torch.stack(pool).mean(dim=0)
        elif row is not None:
            row = row @ steps_oracle.residual(step)
    return (total / pairs if row is None else total)[chain.layout.places]
