"""Walks a second time: every step as a dense float64 matrix, multiplied out naively."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from visattn.adapters import Chain, Placement, Readout, Step
from visattn.observation import AttentionOperation, AttentionRecord


def positions(chain: Chain, asked: Step) -> Iterator[tuple[Placement, dict[str, torch.Tensor]]]:
    """Yield for each placement of a step where its slots lie: share of each cell (slot, row, col).

    Taken down residual paths alone, to the finest grid; prefix tokens lie nowhere.
    """
    down = torch.eye(chain.layout.tokens, dtype=torch.float64)
    for step in chain.steps:
        if step is asked:
            break
        down = residual(step) @ down
    for placement in asked.placements:
        found = {"key": on_grid(chain, placement.keys.matrix() @ down)}
        if placement.origin is not None:
            found["query"] = on_grid(chain, placement.origin.matrix() @ down)
        elif asked.skip is not None:
            origin = placement.queries.matrix().T @ asked.skip.matrix()
            found["query"] = on_grid(chain, origin @ down)
        yield placement, found


def residual(step: Step) -> torch.Tensor:
    """Return where the tokens after a step come from: its residual path, or its queries' origin."""
    if step.skip is not None:
        return step.skip.matrix()
    (first, *_) = step.placements
    assert first.origin is not None
    return first.queries.matrix() @ first.origin.matrix()


def on_grid(chain: Chain, tokens: torch.Tensor) -> torch.Tensor:
    return tokens[:, chain.layout.places].reshape(-1, *chain.layout.grid)


def changes(record: AttentionRecord, placement: Placement, operand: str) -> torch.Tensor | None:
    """Return how much each slot changed against the first image: (image, slot).

    The value stands in for a key that could not be recovered; nothing does for a query.
    """
    operation = record.placed(placement)
    values = getattr(operation, operand)
    if values is None and operand == "key":
        values = operation.value
    if values is None:
        return None
    slots = values.double().transpose(1, 2).flatten(2)
    slots = slots.reshape(record.batch, -1, slots.shape[-1])
    return (slots[1:] - slots[:1]).norm(dim=-1)


def windows_of(placement: Placement, operation: AttentionOperation, index: int) -> torch.Tensor:
    """Return the weights of one image (window, head, query, key)."""
    weights = operation.weights().double()
    return weights.reshape(-1, placement.windows, *weights.shape[1:])[index]


def block_diagonal(matrices: torch.Tensor) -> torch.Tensor:
    """Return (window * query, window * key) from (window, query, key)."""
    return torch.block_diag(*matrices)


def dense(record: AttentionRecord, placement: Placement, index: int) -> torch.Tensor:
    """Return ``Q mean_h(A) K`` (token after, token before) of one image."""
    attn = windows_of(placement, record.placed(placement), index).mean(dim=1)
    return placement.queries.matrix() @ block_diagonal(attn) @ placement.keys.matrix()


def relevance(record: AttentionRecord, placement: Placement, index: int) -> torch.Tensor:
    """Return ``Q mean_h((G * A)^+) K`` of one image."""
    operation = record.placed(placement)
    attn = windows_of(placement, operation, index)
    gradient = operation.gradient_rows(torch.arange(operation.shape[2]))
    assert gradient is not None
    gradient = gradient.double().reshape(-1, placement.windows, *gradient.shape[1:])[index]
    mean = (attn * gradient).clamp(min=0).mean(dim=1)
    return placement.queries.matrix() @ block_diagonal(mean) @ placement.keys.matrix()


def start(chain: Chain) -> torch.Tensor:
    assert isinstance(chain.readout, Readout)
    return chain.readout.row.double()


def rollout_matrix(record: AttentionRecord, step: Step, index: int) -> torch.Tensor:
    if not step.placements:
        assert step.skip is not None
        return step.skip.matrix()
    parts = []
    for placement in step.placements:
        attn = dense(record, placement, index)
        if step.skip is None:
            parts.append(attn)
            continue
        attends = placement.queries.sums[:, None]
        parts.append(0.5 * attn + (1 - 0.5 * attends) * step.skip.matrix())
    return torch.stack(parts).mean(dim=0)


def rollout(chain: Chain, record: AttentionRecord, index: int) -> torch.Tensor:
    row = start(chain)
    if chain.pool is not None:
        row = row @ rollout_matrix(record, chain.pool, index)
    product = torch.eye(chain.layout.tokens, dtype=torch.float64)
    for step in chain.steps:
        product = rollout_matrix(record, step, index) @ product
    return (row @ product)[chain.layout.places]


def gae(chain: Chain, record: AttentionRecord, index: int) -> torch.Tensor:
    """``R <- (S + E) R`` over all steps, without the identity's own share."""
    everything = torch.eye(chain.layout.tokens, dtype=torch.float64)
    own = torch.eye(chain.layout.tokens, dtype=torch.float64)
    for step in (*chain.steps, *([chain.pool] if chain.pool else [])):
        after = step.placements[0].queries.size[0] if step.skip is None else step.skip.size[0]
        skip = torch.zeros(after, step.before.tokens, dtype=torch.float64)
        if step.skip is not None:
            skip = step.skip.matrix()
        matrix = skip.clone()
        for placement in step.placements:
            matrix += relevance(record, placement, index)
        everything, own = matrix @ everything, skip @ own
    return (start(chain) @ (everything - own))[chain.layout.places]


def attention(chain: Chain, record: AttentionRecord, index: int) -> torch.Tensor:
    row = start(chain)
    if chain.pool is not None:
        attn = torch.stack([dense(record, p, index) for p in chain.pool.placements]).mean(dim=0)
        return (row @ attn)[chain.pool.before.places]
    place = chain.layers[-1]
    for step in reversed(chain.steps[place + 1 :]):
        row = row @ residual(step)
    step = chain.steps[place]
    attn = torch.stack([dense(record, p, index) for p in step.placements]).mean(dim=0)
    attends = torch.stack([p.queries.sums for p in step.placements]).amax(dim=0)
    row = row @ attn / (row * attends).sum()
    if not step.before.suffix:
        return row[step.before.places]
    for earlier in reversed(chain.steps[:place]):
        row = row @ residual(earlier)
    return row[chain.layout.places]
