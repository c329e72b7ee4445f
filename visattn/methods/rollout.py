"""Attention rollout (Abnar & Zuidema, ACL 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.methods.heads import fuse
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.walk import Operations, Walk
from visattn.observation import AttentionOperation, AttentionRecord


@METHODS.register("rollout")
@dataclass(frozen=True)
class Rollout(Method):
    """Product of the residual attention matrices of all layers, one row of it.

    ``T_l = rownorm(rho I + (1 - rho) fuse_h A_l)``, map ``(r T_L ... T_1)[patches]`` with r the
    read-out row and rho = ``residual`` (1/2 in the paper). ``heads`` fuses by mean (paper), max,
    min, or chosen heads; ``start_layer`` drops the first layers; ``layers`` keeps chosen ones.
    The row sums to 1 over all tokens, prefix included. Parallel attentions of one block are
    averaged. Class-agnostic.

    Computed as ``q = r / rowsum, r <- rho q + (1 - rho) q fuse(A)`` from the last layer to the
    first: 2 L N^2 D operations, memory linear in the number of tokens.

    Abnar & Zuidema, ACL 2020. Common code starts at layer 1, divides columns by row sums, or
    discards entries of the prefix tokens; none of that happens here.
    """

    attention: ClassVar[bool] = True
    paper: ClassVar[str] = "Abnar & Zuidema, ACL 2020"

    residual: float = 0.5
    start_layer: int = 0
    layers: Any = None
    heads: Any = "mean"
    query: Any = None

    def __post_init__(self) -> None:
        if not 0 <= self.residual < 1:
            raise UnsupportedMethodError(f"residual={self.residual!r} is not in [0, 1).")
        if self.start_layer < 0:
            raise UnsupportedMethodError(f"start_layer={self.start_layer!r} is negative.")

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the rolled-out row on the grid."""
        walk = Walk.of(record)
        row = walk.start(self.query, geometries, self._pool)
        chosen = [i for i in choose(len(walk.blocks), self.layers) if i >= self.start_layer]
        for index in reversed(chosen):
            row = self._step(walk.blocks[index], row)
        layout = walk.chain.layout
        facts = {"readout": walk.start_name(self.query), "layers": chosen}
        return Maps(layout.to_grid(row), layout.cell, facts=facts)

    def _step(self, operations: Operations, row: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._block(op, row, self.residual) for op in operations]).mean(dim=0)

    def _pool(self, operations: Operations, row: torch.Tensor) -> torch.Tensor:
        return self._block(operations[0], row, 0.0)

    def _block(self, operation: AttentionOperation, row: torch.Tensor, rho: float) -> torch.Tensor:
        """Return ``row rownorm(rho I + (1 - rho) fuse(A))``."""
        if self.heads == "mean":
            mixed = (1 - rho) * operation.left_multiply(row)
            return mixed + rho * row if rho else mixed
        result = operation.new_row(row)
        for block in operation.row_blocks(row):
            fused = fuse(block.attn, self.heads)
            scaled = row[:, block.rows] / (rho + (1 - rho) * fused.sum(dim=-1))
            result += (1 - rho) * torch.einsum("bq,bqk->bk", scaled, fused)
            if rho:
                result[:, block.rows] += rho * scaled
        return result
