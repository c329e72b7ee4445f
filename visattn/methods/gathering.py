"""Gathering: what layers contribute one by one, brought to the finest grid and summed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from visattn.adapters import Placement, Step
from visattn.errors import UnsupportedMethodError
from visattn.methods.walk import Product, Walk, padding_mass
from visattn.observation import AttentionOperation, wide


class Gathered(NamedTuple):
    """The sum over layers.

    Attributes:
        row: (batch, token) over the tokens before the first step.
        padding: share (batch,) that fell on padding.
    """

    row: torch.Tensor
    padding: torch.Tensor


@dataclass(frozen=True, eq=False)
class Gathering:
    """``m = sum_l (r_l Q_l X_l K_l) S_(l-1) ... S_1`` over the chosen layers.

    X_l is made of layer l's attention, Q and K place tokens in its slots, S are residual paths, and
    r_l is the row that reads layer l: the start, taken down residual paths to behind it. Attention
    pooling of the head counts as a layer unless ``layers`` or a ``query`` were named; it hands the
    head mean of its weights to the layers below. Parallel attentions of one block add up.

    Attributes:
        walk: the record's walk.
        chosen: the chosen layers.
        pooled: whether the head's attention pooling contributes.
        query: where the walk starts; None for what the head reads.
    """

    walk: Walk
    chosen: Collection[int]
    pooled: bool
    query: Any = None

    @property
    def steps(self) -> list[Step]:
        """The steps that contribute."""
        chain = self.walk.chain
        found = [chain.steps[self.walk.layers[layer]] for layer in self.chosen]
        return found if chain.pool is None or not self.pooled else [*found, chain.pool]

    @property
    def placements(self) -> list[Placement]:
        """The operations that contribute."""
        return [placed for step in self.steps for placed in step.placements]

    def __call__(self, product: Product, row: torch.Tensor | None) -> Gathered:
        """Return the sum, ``product`` giving ``slots X`` (batch * window, key).

        ``row`` (batch, token) is the start; with None every token counts as 1 in every layer.
        """
        walk, lost, contributes = self.walk, list[torch.Tensor](), self.steps
        first = wide(walk.record.operations[0].value)
        total = first.new_zeros(walk.record.batch, walk.chain.end.tokens)
        for step, _ in walk.steps(self.query, ()):
            found = [
                walk.through(placed, _reading(row, placed, total), product, lost)
                for placed in (step.placements if step in contributes else ())
            ]
            pool = step is walk.chain.pool
            if row is not None:
                row = walk.attended(step, row) if pool else step.residual(row)
            total = torch.stack([total if pool else step.residual(total), *found]).sum(dim=0)
        return Gathered(total, padding_mass(lost, total.sum(dim=1)))


def gradient_of(operation: AttentionOperation, rows: torch.Tensor) -> torch.Tensor:
    """Return G (batch * window, head, row, key) of given rows; raises where there is none."""
    gradient = operation.gradient_rows(rows)
    if gradient is None:
        raise UnsupportedMethodError(f"{operation.name} was observed without gradients.")
    return gradient


def _reading(row: torch.Tensor | None, placed: Placement, like: torch.Tensor) -> torch.Tensor:
    return like.new_ones(len(like), placed.queries.size[0]) if row is None else row
