"""Transition attention maps (Yuan, Li, Xiong, Cao & Dou, NeurIPS 2021 workshop)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.methods.feedback import FeedbackMap
from visattn.methods.registry import METHODS
from visattn.methods.residual import kept
from visattn.methods.walk import Walk


@METHODS.register("tam")
@dataclass(frozen=True)
class TransitionAttentionMap(FeedbackMap):
    """State of a Markov chain that starts in the last attention, times the path's gradient.

    ``s = r A_L``, then ``s <- s + s A_l`` for l = L-1 down to ``start_layer``, A the head mean and
    r the read-out row; map ``(s * r mean_h ( mean_k G_h(x_k) )^+)[patches]``, G the gradient of the
    explained score by the last layer's weights, K = ``steps`` images x_k from the mean colour to
    the image. Values >= 0, in units of the score. Class-specific.

    An attention-pooling head is the last layer of both factors: s begins in its row, and all blocks
    are walked behind it. Windows, merging and parallel attentions as in rollout; the second factor
    is taken down residual paths to the same grid. Refused where the tokens that the head reads do
    not all attend in the last layer. Cost K forward and backward passes (backward to the last
    attention only) and 2 L N^2 D; memory linear in the number of tokens.

    Yuan, Li, Xiong, Cao & Dou, NeurIPS 2021 workshop (XAI4Debugging). The paper writes (I + A) / 2,
    a constant factor. Published for ViT-B: ``start_layer=4`` of 12; the default here is all layers.
    """

    formula: ClassVar[str] = "s = r A_L; s <- s + s A_l; s * r mean_h (mean_k G_L(x_k))^+"
    paper: ClassVar[str] = "Yuan, Li, Xiong, Cao & Dou, NeurIPS 2021 workshop"

    def perceived(
        self, walk: Walk, row: torch.Tensor, chosen: Sequence[int], lost: list[torch.Tensor]
    ) -> torch.Tensor:
        """Return the last state of the chain (batch, token)."""
        begun = False
        for step, attends in walk.steps(self.query, chosen):
            own = kept(step, row)
            if attends:
                parts = [
                    walk.through(placed, row, lambda op, slots: op.left_multiply(slots), lost)
                    for placed in step.placements
                ]
                moved = torch.stack(parts).mean(dim=0)
                own = own + moved if begun else moved
                begun = True
            row = own
        return row
