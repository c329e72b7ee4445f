"""Attention weighted by the norm of what it moves (Kobayashi et al., EMNLP 2020 and 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Site, Step
from visattn.geometry import Geometry
from visattn.methods.artefacts import SINK, Artefacts
from visattn.methods.blocks import StreamMethod, block_of, blocks_of, read, values_of
from visattn.methods.layers import choose
from visattn.methods.method import Maps
from visattn.methods.registry import METHODS
from visattn.methods.transition import Transition
from visattn.methods.treatment import Treatment
from visattn.methods.values import Values
from visattn.methods.walk import Walk
from visattn.observation import AttentionOperation, AttentionRecord, RowBlock
from visattn.outliers import DEVIATIONS


@METHODS.register("value_norm")
@dataclass(frozen=True)
class ValueNorm(StreamMethod):
    """Length of the vector that each token sends to the tokens that the head reads.

    ``n_ij = || sum_h A_hij f_h(x_j) + [i = j] x_i ||`` with ``f_h(x_j) = s V_hj W_O^h`` in R^D: the
    value bias is inside, the output bias is left out, LayerScale s is inside where there is one;
    heads are fused by the norm of their sum. The block's input x_i is added with ``residual`` (2021
    paper), not without (2020 paper, the default): in the row of a class token it changes that
    token's own entry alone. Map ``(r n)[patches]`` of the last layer, r the read-out row or a
    query; several ``layers`` are averaged. Values >= 0, in units of the stream.

    With ``chain`` all layers, or those in ``layers``, are multiplied as in rollout: ``T =
    rownorm(n)`` with ``residual``, else ``T = (I + rownorm(n)) / 2``; the row then sums to 1 over
    all tokens. The papers look at single layers; the product over layers is ours.

    An attention-pooling head is a layer of its own, without residual: the last one unless
    ``layers`` or a query say otherwise, and the first factor of a chain. Class-agnostic. The norm
    comes from the H x H inner products of each token's f_h; the diagonal with ``residual`` is
    computed directly. Cost 2 L N^2 (D + H^2) (one layer's without ``chain``, one row's for a class
    token), memory N H^2 and blocks of rows. Refused where a norm, a gate or mixed heads stand
    between values and stream, and for post-norm and hierarchical models.

    Kobayashi, Kuribayashi, Yokoi & Inui, EMNLP 2020 and EMNLP 2021.
    """

    memory: ClassVar[str] = "N H^2 + H b N"
    formula: ClassVar[str] = "n_ij = || sum_h A_hij V_hj W_O^h ||, row r n of the last layer"
    paper: ClassVar[str] = "Kobayashi et al., EMNLP 2020, 2021"

    residual: bool = False
    chain: bool = False
    layers: Any = None
    query: Any = None

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the tokens that enter each block, where they count."""
        return tuple(block.before for block in blocks_of(adapter)) if self.residual else ()

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the row of norms, or of their chain, on the grid."""
        walk = Walk.of(record)
        start = walk.start(self.query, geometries)
        pooled = walk.chain.pool is not None and self.query is None and self.layers is None
        if self.chain:
            chosen = choose(len(walk.layers), self.layers)
            row = self._chained(walk, start, chosen)
        else:
            last = -1 if self.layers is None else self.layers
            chosen = [] if pooled else choose(len(walk.layers), last)
            row = self._rows(walk, start, chosen)
        facts = {"readout": walk.start_name(self.query), "layers": chosen}
        return Maps(walk.chain.layout.to_grid(row), walk.chain.layout.cell, facts=facts)

    def _chained(self, walk: Walk, row: torch.Tensor, chosen: list[int]) -> torch.Tensor:
        for step, attends in walk.steps(self.query, chosen):
            row = self._transition(walk, step)(step, row, attends)
        return row

    def _rows(self, walk: Walk, row: torch.Tensor, chosen: list[int]) -> torch.Tensor:
        """Return ``r n`` of the head's attention pool, or averaged over the chosen layers."""
        pool = walk.chain.pool
        if not chosen and pool is not None:
            return self._through(walk, pool, row)
        if pool is not None and self.query is None:
            row = self._transition(walk, pool)(pool, row, True)
        steps = [walk.chain.steps[walk.layers[layer]] for layer in chosen]
        return torch.stack([self._through(walk, step, row) for step in steps]).mean(dim=0)

    def _through(self, walk: Walk, step: Step, row: torch.Tensor) -> torch.Tensor:
        weights = self._weights(walk, step)

        def product(operation: AttentionOperation, slots: torch.Tensor) -> torch.Tensor:
            result = operation.new_row(slots)
            for block in operation.row_blocks(slots):
                result += torch.einsum("bq,bqk->bk", slots[:, block.rows], weights(block))
            return result

        return walk.through(step.placements[0], row, product)

    def _transition(self, walk: Walk, step: Step) -> Transition:
        """Return the row-normalised matrix of a step, its residual path inside or beside n."""
        weights = self._weights(walk, step)
        treatment = Treatment("keep", Artefacts(walk, SINK, DEVIATIONS))
        if self.residual or step.skip is None:
            return Transition(0.0, weights, treatment)
        return Transition(0.5, lambda block: _row_normalised(weights(block)), treatment)

    def _weights(self, walk: Walk, step: Step) -> Callable[[RowBlock], torch.Tensor]:
        """Return the function from complete rows of A to rows of n (batch, row, key)."""
        values = values_of(walk, step)
        gram, tokens = values.gram(), None
        if self.residual and step is not walk.chain.pool:
            tokens = read(walk.record, block_of(walk, step).before)

        def weights(rows: RowBlock) -> torch.Tensor:
            found = norms(rows.attn, gram)
            if tokens is not None:
                own = _own(rows, values, tokens)
                found[:, torch.arange(len(rows.rows)), rows.rows] = own
            return found

        return weights


def norms(attn: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """Return ``|| sum_h A_hij f_h(x_j) ||`` (batch, row, key).

    From A (batch, head, row, key) and the inner products of f (batch, key, head, head).
    """
    heads = attn.permute(0, 3, 2, 1)
    squares = ((heads @ gram) * heads).sum(dim=-1)
    return squares.clamp(min=0).sqrt().transpose(1, 2)


def _own(rows: RowBlock, values: Values, tokens: torch.Tensor) -> torch.Tensor:
    """Return ``|| sum_h A_hii f_h(x_i) + x_i ||`` (batch, row)."""
    attn = rows.attn[:, :, torch.arange(len(rows.rows)), rows.rows]
    whole = values.mixed(attn, rows.rows) + tokens[:, rows.rows]
    lengths: torch.Tensor = torch.linalg.vector_norm(whole, dim=-1)
    return lengths


def _row_normalised(weights: torch.Tensor) -> torch.Tensor:
    sums = weights.sum(dim=-1, keepdim=True)
    return weights / sums.where(sums > 0, 1.0)
