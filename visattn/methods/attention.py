"""Raw attention: the row of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Step
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.methods.heads import fuse
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.walk import Walk
from visattn.observation import AttentionOperation, AttentionRecord


@METHODS.register("attention")
@dataclass(frozen=True)
class Attention(Method):
    """Attention of the tokens that the head reads, in one layer (the last by default).

    ``m = (r A)[patches]`` with ``A`` the fused attention of the layer and ``r`` the read-out row or
    a query; several layers are averaged. For a model with an attention-pooling head and neither
    ``layers`` nor ``query``, the pooling head's own row over tokens is shown. In hierarchical
    models r is taken down residual paths to the layer, a query is a cell of that layer's own grid,
    and the map has the grid of the finest chosen layer. Values in 0..1, of sum 1 together with the
    prefix tokens. Class-agnostic; cost O(H N d) for one row.

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
        pool = walk.chain.pool
        facts = {"readout": walk.start_name(self.query)}
        if pool is not None and self.layers is None and self.query is None:
            row = self._step(walk, pool, walk.start(None, geometries))
            facts["layers"] = ", ".join(placed.operation for placed in pool.placements)
            return Maps(pool.before.to_grid(row), pool.before.cell, facts=facts)
        chosen = choose(len(walk.layers), -1 if self.layers is None else self.layers)
        places = [walk.layers[layer] for layer in chosen]
        second_branch = walk.chain.steps[places[0]].before.suffix > 0
        finest = 0 if second_branch else places[0]
        rows = [self._layer(walk, place, geometries, finest) for place in places]
        layout = walk.chain.steps[finest].before
        names = [p.operation for place in places for p in walk.chain.steps[place].placements]
        facts["layers"] = ", ".join(names)
        return Maps(layout.to_grid(torch.stack(rows).mean(dim=0)), layout.cell, facts=facts)

    def _layer(
        self, walk: Walk, place: int, geometries: Sequence[Geometry], finest: int
    ) -> torch.Tensor:
        """Return one layer's row over the tokens before the step ``finest``."""
        if self.query is None:
            row = walk.pulled(self._read(walk, geometries), len(walk.chain.steps), place + 1)
        else:
            row = walk.asked(self.query, geometries, walk.chain.after(place))
        step = walk.chain.steps[place]
        if not any(placed.queries(row).any() for placed in step.placements):
            names = ", ".join(placed.operation for placed in step.placements)
            raise UnsupportedMethodError(
                f"{walk.start_name(self.query)} does not attend in {names}; choose another of the "
                f"{len(walk.layers)} layers with layers=, or another query."
            )
        return walk.pulled(self._step(walk, step, row), place, finest)

    def _read(self, walk: Walk, geometries: Sequence[Geometry]) -> torch.Tensor:
        """Return the row over the last stream that the head reads, through its pooling."""
        start = walk.start(None, geometries)
        return start if walk.chain.pool is None else self._step(walk, walk.chain.pool, start)

    def _step(self, walk: Walk, step: Step, row: torch.Tensor) -> torch.Tensor:
        parts = [walk.through(placed, row, self._product) for placed in step.placements]
        return torch.stack(parts).mean(dim=0)

    def _product(self, operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
        result = operation.new_row(row)
        for block in operation.row_blocks(row):
            fused = fuse(block.attn, self.heads)
            result += torch.einsum("bq,bqk->bk", row[:, block.rows], fused)
        return result
