"""Generic attention explainability (Chefer, Gur & Wolf, ICCV 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.walk import Operations, Walk
from visattn.observation import AttentionOperation, AttentionRecord


@METHODS.register("gae")
@dataclass(frozen=True)
class GenericAttentionExplainability(Method):
    """Positive attention times its gradient, accumulated over layers (self-attention rule).

    ``E_l = mean_h (G_l * A_l)^+`` (ReLU before the head mean, eq. 5), ``R = (I + E_L) ... (I +
    E_1)`` (eq. 6), map ``(r (R - I))[patches]`` with r the read-out row; no row normalisation. The
    identity is a token's own share: it lies on the class token where there is one, and would only
    add a constant to the map of a mean-pooled model. G is the
    gradient of the explained score by the attention weights, taken as ``<dO, V>`` from the
    gradient at the attention output. Attention-pooling heads are a first step ``r E_pool`` without
    identity, which stays in the map; parallel attentions of one block add up. Values >= 0, in units
    of the score. Class-specific.

    Computed as ``m <- m + (r + m) E`` from the last layer to the first: forward, backward and
    4 L N^2 D operations, memory linear in the number of tokens.

    Chefer, Gur & Wolf, ICCV 2021. The CLIP notebook of the authors uses the last layer only; state
    ``start_layer`` when comparing. Some re-implementations clamp after the head mean.
    """

    class_specific: ClassVar[bool] = True
    attention: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    cost: ClassVar[str] = "forward + backward"
    paper: ClassVar[str] = "Chefer, Gur & Wolf, ICCV 2021"

    start_layer: int = 0
    layers: Any = None
    query: Any = None

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the accumulated relevance on the grid."""
        walk = Walk.of(record)
        start = walk.start(self.query, geometries, _sum_step)
        chosen = choose(len(walk.blocks), self.layers, self.start_layer)
        gained = torch.zeros_like(start)
        for index in reversed(chosen):
            gained = gained + _sum_step(walk.blocks[index], start + gained)
        if walk.pool is not None and self.query is None:
            gained = gained + start
        layout = walk.chain.layout
        facts = {"readout": walk.start_name(self.query), "layers": chosen}
        return Maps(layout.to_grid(gained), layout.cell, facts=facts)


def _sum_step(operations: Operations, row: torch.Tensor) -> torch.Tensor:
    return torch.stack([positive_step(op, row) for op in operations]).sum(dim=0)


def positive_step(operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
    """Return ``r E`` with ``E = mean_h (G * A)^+``: (batch, query) -> (batch, key)."""
    result = operation.new_row(row)
    for block in operation.row_blocks(row):
        if block.gradient is None:
            raise UnsupportedMethodError(f"{operation.name} was observed without gradients.")
        relevance = (block.attn * block.gradient).clamp_(min=0).mean(dim=1)
        result += torch.einsum("bq,bqk->bk", row[:, block.rows], relevance)
    return result
