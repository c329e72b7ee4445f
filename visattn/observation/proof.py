"""Proofs that what was observed is what the model computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from visattn.errors import CaptureError
from visattn.models.output import as_scores_tensor
from visattn.models.state import undisturbed
from visattn.observation.observe import observe
from visattn.observation.operation import AttentionOperation, wide

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Proof:
    """How far a capture is from the model's own computation.

    Attributes:
        operations: number of attention operations observed.
        outputs_identical: whether the model's outputs under observation are bit for bit the same.
        product_error: largest ``|softmax(scale q k^T + bias) v - output|``, relative to the largest
            output of the operation.
        row_sum_error: largest deviation of a row of attention weights from sum 1.
        tolerance: what both errors may be in the model's dtype.
    """

    operations: int
    outputs_identical: bool
    product_error: float
    row_sum_error: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether all three statements are true."""
        worst = max(self.product_error, self.row_sum_error)
        return self.operations > 0 and self.outputs_identical and worst <= self.tolerance

    def require(self) -> None:
        """Raise `CaptureError` with the numbers unless the proof holds."""
        if not self.holds:
            raise CaptureError(f"The capture is not what the model computed: {self}.")


def prove(module: nn.Module, inputs: torch.Tensor) -> Proof:
    """Run ``module`` with and without observation on ``inputs`` and compare.

    Raises `CaptureError` when no attention is observed.
    """
    with undisturbed(module), torch.no_grad():
        plain = as_scores_tensor(module(inputs))
    seen = observe(module, inputs)
    errors = [_errors(operation) for operation in seen.operations]
    return Proof(
        operations=len(errors),
        outputs_identical=torch.equal(plain, seen.outputs),
        product_error=max(product for product, _ in errors),
        row_sum_error=max(row_sum for _, row_sum in errors),
        tolerance=TOLERANCE.get(plain.dtype, 1e-4),
    )


def _errors(operation: AttentionOperation) -> tuple[float, float]:
    value, output = wide(operation.value), wide(operation.output)
    product = row_sum = 0.0
    for block in operation.row_blocks():
        difference = block.attn @ value - output[:, :, block.rows]
        product = max(product, float(difference.abs().max()))
        row_sum = max(row_sum, float((block.attn.sum(dim=-1) - 1).abs().max()))
    return product / max(float(output.abs().max()), 1e-30), row_sum
