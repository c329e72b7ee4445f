"""Raw attention: the row of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.geometry import Geometry
from visattn.methods.heads import fuse
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.walk import Operations, Walk
from visattn.observation import AttentionRecord


@METHODS.register("attention")
@dataclass(frozen=True)
class Attention(Method):
    """Attention of the tokens that the head reads, in one layer (the last by default).

    ``m = (r A)[patches]`` with ``A`` the fused attention of the layer and ``r`` the read-out row or
    a query; several layers are averaged. For a model with an attention-pooling head and neither
    ``layers`` nor ``query``, the pooling head's own row over tokens is shown. Values in 0..1, of
    sum 1 together with the prefix tokens. Class-agnostic; cost O(H N d) for one row.

    The baseline of Chefer et al., CVPR 2021; on reading it as explanation see Jain & Wallace,
    NAACL 2019. Unlike common code, prefix tokens are those that the model has, not ``1:``.
    """

    attention: ClassVar[bool] = True
    paper: ClassVar[str] = "baseline; see Jain & Wallace, NAACL 2019"

    layers: Any = None
    heads: Any = "mean"
    query: Any = None

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the fused rows on the grid."""
        walk = Walk.of(record)
        start = walk.start(self.query, geometries, self._step)
        facts = {"readout": walk.start_name(self.query)}
        if walk.pool is not None and self.layers is None and self.query is None:
            row, facts["layers"] = start, walk.pool.name
        else:
            chosen = choose(len(walk.blocks), -1 if self.layers is None else self.layers)
            row = torch.stack([self._step(walk.blocks[i], start) for i in chosen]).mean(dim=0)
            facts["layers"] = ", ".join(op.name for i in chosen for op in walk.blocks[i])
        layout = walk.chain.layout
        return Maps(layout.to_grid(row), layout.cell, facts=facts)

    def _step(self, operations: Operations, row: torch.Tensor) -> torch.Tensor:
        rows = []
        for operation in operations:
            result = operation.new_row(row)
            for block in operation.row_blocks(row):
                fused = fuse(block.attn, self.heads)
                result += torch.einsum("bq,bqk->bk", row[:, block.rows], fused)
            rows.append(result)
        return torch.stack(rows).mean(dim=0)
