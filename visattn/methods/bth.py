"""Beyond Intuition, head-wise (Chen, Li, Yu, Dou & Xiong, TMLR 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.adapters import Step
from visattn.errors import UnsupportedMethodError
from visattn.methods.feedback import FeedbackMap
from visattn.methods.registry import METHODS
from visattn.methods.residual import added
from visattn.methods.walk import Product, Walk
from visattn.observation import AttentionOperation, wide
from visattn.observation.operation import BLOCK_BYTES


@METHODS.register("bth")
@dataclass(frozen=True)
class BeyondIntuitionHeads(FeedbackMap):
    """Attention with heads weighed by what they pass on to the score, times the path's gradient.

    ``B_l = sum_h theta_h A_h``, ``theta_h = I_h / sum_h I_h``, ``I_h = mean_jk |(A_h^T G_h)_jk| =
    mean_jk |<dV_hj, V_hk>|``; perception ``p = r (I + B_L) ... (I + B_1)`` from ``start_layer`` on,
    r the read-out row; map ``(p * r mean_h ( mean_k G_L,h(x_k) )^+)[patches]``, G the gradient of
    the explained score by the weights, K = ``steps`` images x_k from the mean colour to the image.
    Values >= 0, in units of the score. Class-specific.

    An attention-pooling head is a first factor B without identity and the last layer of the
    feedback. Windows share one theta per layer, parallel attentions count as heads of one layer,
    merging as in rollout; the feedback is taken down residual paths to the same grid. Refused
    where the tokens that the head reads do not all attend in the last layer. Cost K forward and
    backward passes (all but one backward to the last attention only) and 4 L N^2 D; memory linear
    in the number of tokens.

    Chen, Li, Yu, Dou & Xiong, TMLR 2023. The authors' code normalises theta over the batch as well.
    Published for ViT-B: ``start_layer=3`` of 12, tuned per model; the default here is all layers.
    """

    formula: ClassVar[str] = "r prod (I + sum_h theta_h A_h) * r mean_h (mean_k G_L(x_k))^+"
    paper: ClassVar[str] = "Chen, Li, Yu, Dou & Xiong, TMLR 2023"

    def perceived(
        self, walk: Walk, row: torch.Tensor, chosen: Sequence[int], lost: list[torch.Tensor]
    ) -> torch.Tensor:
        """Return ``r (I + B_L) ... (I + B_s)`` (batch, token)."""
        for step, attends in walk.steps(self.query, chosen):
            products = weighed(walk, step) if attends else []
            row = added(walk, step, row, products, lost)
        return row


def weighed(walk: Walk, step: Step) -> list[Product]:
    """Return the products ``r sum_h theta_h A_h`` of a step's operations, theta over all heads."""
    batch = walk.record.batch
    found = [head_importance(walk.operation(placed)) for placed in step.placements]
    images = [heads.reshape(batch, -1, heads.shape[1]).mean(dim=1) for heads in found]
    total = torch.cat(images, dim=1).sum(dim=1, keepdim=True)
    shares = [part / total.where(total > 0, 1.0) for part in images]
    return [
        _product(share.repeat_interleave(placed.windows, dim=0))
        for share, placed in zip(shares, step.placements, strict=True)
    ]


def _product(theta: torch.Tensor) -> Product:
    def product(operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
        result = operation.new_row(row)
        for rows in operation.blocks(row):
            slots = row[:, None, rows] * theta[:, :, None]
            result += torch.einsum("bhq,bhqk->bk", slots, operation.rows(rows))
        return result

    return product


def head_importance(operation: AttentionOperation) -> torch.Tensor:
    """Return ``I_h = mean_jk |(A_h^T G_h)_jk|`` (batch, head), without G.

    With ``G = dO V^T`` it is ``mean_jk |<dV_j, V_k>|``, ``dV = A^T dO``. Heads that are mixed
    behind the softmax have ``G_h = sum_o m_oh dO_o V_o^T``: channels of all outputs side by side.
    """
    if operation.output_gradient is None:
        raise UnsupportedMethodError(f"{operation.name} was observed without gradients.")
    gradient, value = wide(operation.output_gradient), wide(operation.value)
    batch, heads, _, keys = operation.shape
    weights = value.new_ones(heads, 1)
    if operation.mixing is not None:
        weights = wide(operation.mixing).T.repeat_interleave(value.shape[-1], dim=1)
        gradient, value = (part.transpose(1, 2).flatten(2)[:, None] for part in (gradient, value))
    passed = value.new_zeros(batch, heads, keys, value.shape[-1])
    for rows in operation.blocks(gradient.abs().amax(dim=(1, 3))):
        passed += operation.rows(rows).transpose(2, 3) @ gradient[:, :, rows]
    passed *= weights[None, :, None]
    total = value.new_zeros(batch, heads)
    size = max(1, BLOCK_BYTES // (4 * batch * heads * keys))
    for some in torch.split(passed, size, dim=2):
        total += (some @ value.transpose(2, 3)).abs().sum(dim=(2, 3))
    return total / keys**2
