"""Beyond Intuition, token-wise (Chen, Li, Yu, Dou & Xiong, TMLR 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from visattn.adapters import Adapter, Site, Step
from visattn.methods.blocks import StreamMethod, blocks_of, read, tokens_into, values_of
from visattn.methods.feedback import FeedbackMap
from visattn.methods.registry import METHODS
from visattn.methods.residual import added
from visattn.methods.walk import Product, Walk


@METHODS.register("btt")
@dataclass(frozen=True)
class BeyondIntuitionTokens(StreamMethod, FeedbackMap):
    """Attention scaled by how much longer a token's value is than the token, times path's gradient.

    ``B_ij = Abar_ij || s W_O concat_h V_hj || / || x_j ||``, Abar the head mean, x the block's
    input before its norm, output bias left out, LayerScale s inside where there is one (the
    paper's models have none); perception ``p = r (I + B_L) ... (I + B_1)`` from ``start_layer`` on,
    r the read-out row; map ``(p * r mean_h ( mean_k G_L,h(x_k) )^+)[patches]``, G the gradient of
    the explained score by the weights, K = ``steps`` images x_k from the mean colour to the image.
    Values >= 0, in units of the score. Class-specific.

    An attention-pooling head is a first factor B without identity, its x the tokens behind the last
    block, and the last layer of the feedback. Plain pre-norm transformers only. Cost K forward and
    backward passes (all but one backward to the last attention only) and 2 L N^2 D + L N D^2;
    memory linear in the number of tokens.

    Chen, Li, Yu, Dou & Xiong, TMLR 2023. The absolute value that the authors' code takes of p
    changes nothing. Published for ViT-B: ``start_layer=5`` of 12, tuned per model; the default here
    is all layers.
    """

    applies: ClassVar[str] = "plain pre-norm transformers"
    formula: ClassVar[str] = "r prod (I + Abar diag(|W_O V_j| / |x_j|)) * r mean_h (mean_k G_L)^+"
    paper: ClassVar[str] = "Chen, Li, Yu, Dou & Xiong, TMLR 2023"

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the norms of the tokens that enter each block, and the pool of the head."""
        return tuple(_norms(adapter, place) for place in range(len(blocks_of(adapter)) + 1))

    def perceived(
        self, walk: Walk, row: torch.Tensor, chosen: Sequence[int], lost: list[torch.Tensor]
    ) -> torch.Tensor:
        """Return ``r (I + B_L) ... (I + B_s)`` (batch, token)."""
        for step, attends in walk.steps(self.query, chosen):
            products = [_scaled(walk, step)] if attends else []
            row = added(walk, step, row, products, lost)
        return row


def _norms(adapter: Adapter, place: int) -> Site:
    return replace(tokens_into(adapter, place), norm=True)


def _scaled(walk: Walk, step: Step) -> Product:
    """Return the product ``r B`` of a step."""
    placed = step.placements[0]
    tokens = read(walk.record, _norms(walk.record.adapter, walk.place(step)))
    values = values_of(walk, step).norms()
    # The keys of a pool may be fewer than the tokens of the stream.
    lengths = tokens[:, placed.keys.columns.to(tokens.device)]
    growth = values / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)
    return lambda operation, row: operation.left_multiply(row) * growth
