"""Grad-SAM (Barkan et al., CIKM 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Chain, Placement, chain_of
from visattn.errors import UnsupportedMethodError, suggestion
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.gathering import Gathering, gradient_of
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.walk import Product, Walk, padding_notes
from visattn.observation import AttentionOperation, AttentionRecord
from visattn.propagation import rules_named

ROWS = ("all", "readout")


@METHODS.register("grad_sam")
@dataclass(frozen=True)
class GradientSelfAttentionMap(Method):
    """Attention times its positive gradient, averaged over layers, heads and rows.

    ``m_j = 1/(L H N) sum_l sum_h sum_i A_hij (G_hij)^+`` over patch columns j, G the gradient of
    the explained score by the attention weights: what token j hands out, to whom it may be. With
    ``rows="readout"`` only the row that the head reads counts, ``1/(L H) sum_l sum_h (r A (G)^+)``,
    r the read-out row (or ``query``) taken down residual paths. Values >= 0, in units of the score.
    Class-specific.

    In windowed and hierarchical models the mean is over all pairs of a head and a query of all
    chosen layers, and a layer's columns go down residual paths to the finest grid; attention
    pooling of the head counts as a layer. ``backward`` names rules of the backward pass.

    A column reduction, row block by row block: forward, backward and 4 L N^2 D operations (with
    ``rows="readout"`` of class-token models L N D), memory linear in the number of tokens.

    Barkan et al., CIKM 2021, for text; there is no official code, and which index the paper sums
    over could not be confirmed. The transformer package txv reads row 0.
    """

    class_specific: ClassVar[bool] = True
    attention: ClassVar[bool] = True
    walks: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "H b N"
    applies: ClassVar[str] = "attention over tokens"
    formula: ClassVar[str] = "mean_l,h,i A * (G)^+, column by column"
    paper: ClassVar[str] = "Barkan et al., CIKM 2021"

    rows: str = "all"
    start_layer: int = 0
    layers: Any = None
    query: Any = None
    backward: str = "plain"

    def __post_init__(self) -> None:
        if self.rows not in ROWS:
            raise UnsupportedMethodError(
                f"grad_sam: rows={self.rows!r} is neither 'all' nor 'readout'."
                + suggestion(str(self.rows), ROWS)
            )
        if self.rows == "all" and self.query is not None:
            raise UnsupportedMethodError(
                f"grad_sam: query={self.query!r} means nothing where all rows are averaged; add "
                "rows='readout'."
            )
        rules_named(self.backward)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the method does not apply; the mean over all rows needs no read-out."""
        chain = chain_of(adapter, size)
        if self.rows == "all" and isinstance(chain, Chain):
            return None if chain.refusal is None else chain.refusal.reason
        return super().refusal(adapter, size)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the mean on the finest grid."""
        walk = Walk.of(record)
        chosen = choose(len(walk.layers), self.layers, self.start_layer)
        pooled = self.layers is None and self.query is None
        gathering = Gathering(walk, chosen, pooled, self.query)
        everything = self.rows == "all"
        start = None if everything else walk.start(self.query, geometries)
        total, padding = gathering(_product(everything), start)
        pairs = sum(_pairs(walk, placed, everything) for placed in gathering.placements)
        layout = walk.chain.layout
        readout = "mean of all rows" if everything else walk.start_name(self.query)
        return Maps(
            layout.to_grid(total / pairs),
            layout.cell,
            warnings=padding_notes(padding),
            facts={"readout": readout, "layers": chosen},
            measured=[{"padding_mass": round(share, 6)} for share in padding.tolist()],
        )


def _pairs(walk: Walk, placed: Placement, everything: bool) -> int:
    """Return how many rows of one image are averaged: of each head, every query or the read-out."""
    heads = walk.operation(placed).shape[1]
    return heads * int(placed.queries.transposed().sums.count_nonzero()) if everything else heads


def _product(everything: bool) -> Product:
    """Return ``r sum_h A * (G)^+``: (batch, query) -> (batch, key); all rows count with 1."""

    def product(operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
        weights = torch.ones_like(row) if everything else row
        result = operation.new_row(row)
        for rows in operation.blocks(weights):
            part = gradient_of(operation, rows).clamp_(min=0).mul_(operation.rows(rows))
            result += torch.einsum("bq,bhqk->bk", weights[:, rows], part)
        return result

    return product
