"""Raw attention: the row of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Step, TokenLayout
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.methods.heads import fuse
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.walk import Walk, padding_mass, padding_notes
from visattn.observation import AttentionOperation, AttentionRecord


@METHODS.register("attention")
@dataclass(frozen=True)
class Attention(Method):
    """Attention of the tokens that the head reads, in one layer (the last by default).

    ``m = (r A)[patches]`` with ``A`` the fused attention of the layer and ``r`` the read-out row or
    a query; several layers are averaged. For a model with an attention-pooling head and neither
    ``layers`` nor ``query``, the pooling head's own row over tokens is shown. In hierarchical
    models r is taken down residual paths to the layer, of it the part counts that attends there
    (one branch of CrossViT), and the map, of which a query is a cell, has the grid of the finest
    chosen layer. Values in 0..1, of sum 1 together with prefix tokens and padding.
    Class-agnostic; cost O(H N d) for one row.

    The baseline of Chefer et al., CVPR 2021; on reading it as explanation see Jain & Wallace,
    NAACL 2019. Unlike common code, prefix tokens are those that the model has, not ``1:``.
    """

    attention: ClassVar[bool] = True
    memory: ClassVar[str] = "H N"
    applies: ClassVar[str] = "attention over tokens"
    formula: ClassVar[str] = "(r A)[patches], last layer"
    paper: ClassVar[str] = "baseline; see Jain & Wallace, NAACL 2019"

    layers: Any = None
    heads: Any = "mean"
    query: Any = None

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the fused rows on the grid."""
        walk = Walk.of(record)
        pool, lost = walk.chain.pool, list[torch.Tensor]()
        facts = {"readout": walk.start_name(self.query)}
        if pool is not None and self.layers is None and self.query is None:
            row = self._step(walk, pool, walk.start(None, geometries), lost)
            facts["layers"] = ", ".join(placed.operation for placed in pool.placements)
            return self._maps(pool.before, row, lost, facts)
        chosen = choose(len(walk.layers), -1 if self.layers is None else self.layers)
        places = [walk.layers[layer] for layer in chosen]
        second_branch = walk.chain.steps[places[0]].before.suffix > 0
        finest = 0 if second_branch else places[0]
        rows = [self._layer(walk, place, geometries, finest, lost, facts) for place in places]
        layout = walk.chain.steps[finest].before
        names = [p.operation for place in places for p in walk.chain.steps[place].placements]
        facts["layers"] = ", ".join(names)
        return self._maps(layout, torch.stack(rows).mean(dim=0), lost, facts)

    def _maps(
        self,
        layout: TokenLayout,
        row: torch.Tensor,
        lost: list[torch.Tensor],
        facts: dict[str, Any],
    ) -> Maps:
        padding = padding_mass(lost, row.sum(dim=1) * max(1, len(lost)))
        share = facts.get("attending", 1.0)
        partly = [f"only {share:.0%} of {facts['readout']} attends here"] if share < 1 else []
        return Maps(
            layout.to_grid(row),
            layout.cell,
            facts=facts,
            warnings=[[*partly, *notes] for notes in padding_notes(padding)],
            measured=[{"padding_mass": round(share, 6)} for share in padding.tolist()],
        )

    def _layer(
        self,
        walk: Walk,
        place: int,
        geometries: Sequence[Geometry],
        finest: int,
        lost: list[torch.Tensor],
        facts: dict[str, Any],
    ) -> torch.Tensor:
        """Return one layer's row over the tokens before the step ``finest``, of sum 1 or less.

        Of what the head reads only the part counts that attends in this layer.
        """
        step, after = walk.chain.steps[place], walk.chain.after(place)
        if self.query is None:
            row = walk.pulled(self._read(walk, geometries), len(walk.chain.steps), place + 1)
        else:
            shown = walk.chain.steps[finest].before
            row = walk.asked(self.query, geometries, after, shown)
        sums = torch.stack([placed.queries.sums for placed in step.placements]).amax(dim=0)
        attends = (row * sums.to(row)).sum(dim=1, keepdim=True)
        facts["attending"] = min(facts.get("attending", 1.0), round(float(attends.min()), 4))
        if not attends.all():
            names = ", ".join(placed.operation for placed in step.placements)
            raise UnsupportedMethodError(
                f"{walk.start_name(self.query)} does not attend in {names}; choose another of the "
                f"{len(walk.layers)} layers with layers=, or another query."
            )
        return walk.pulled(self._step(walk, step, row / attends, lost), place, finest)

    def _read(self, walk: Walk, geometries: Sequence[Geometry]) -> torch.Tensor:
        """Return the row over the last stream that the head reads, through its pooling."""
        start = walk.start(None, geometries)
        return start if walk.chain.pool is None else self._step(walk, walk.chain.pool, start, [])

    def _step(
        self, walk: Walk, step: Step, row: torch.Tensor, lost: list[torch.Tensor]
    ) -> torch.Tensor:
        parts = [walk.through(placed, row, self._product, lost) for placed in step.placements]
        return torch.stack(parts).mean(dim=0)

    def _product(self, operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
        result = operation.new_row(row)
        for block in operation.row_blocks(row):
            fused = fuse(block.attn, self.heads)
            result += torch.einsum("bq,bqk->bk", row[:, block.rows], fused)
        return result
