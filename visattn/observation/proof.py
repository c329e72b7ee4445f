"""Proofs that what was observed is what the model computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from visattn.errors import CaptureError
from visattn.models.output import as_scores_tensor
from visattn.models.state import undisturbed
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
        row_sum_error: largest deviation of a row of attention weights from sum 1, over operations
            whose weights are those of a softmax.
        tolerance: what both errors may be in the coarsest dtype of an operation.
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


def require_product(operation: AttentionOperation) -> None:
    """Raise `CaptureError` unless the first, middle and last row of weights give the output.

    This fails when a model overwrites query, key, value or output in place after the product, or
    drops attention weights at random.
    """
    if operation.output.is_meta:
        return
    queries = operation.shape[2]
    rows = torch.tensor(sorted({0, queries // 2, queries - 1}), device=operation.value.device)
    error = _product_error(operation, rows, operation.rows(rows))
    limit = tolerance(operation)
    if not error <= limit:
        raise CaptureError(
            f"{operation.name}: softmax(qk)v differs from the observed output by {error:.1e} of "
            f"its largest value (limit {limit:g}): an operand was overwritten in place after the "
            "product, or weights were dropped. Its map would be wrong."
        )


def tolerance(operation: AttentionOperation) -> float:
    """Return what relative error the operation's own dtypes allow; the output's under autocast."""
    tensors = (operation.value, operation.output, operation.explicit)
    return max(TOLERANCE.get(part.dtype, 1e-4) for part in tensors if part is not None)


def prove(module: nn.Module, inputs: torch.Tensor) -> Proof:
    """Run ``module`` with and without observation on ``inputs`` and compare every row.

    Raises `CaptureError` when no attention is observed.
    """
    from visattn.observation.observe import observe

    with undisturbed(module), torch.no_grad():
        plain = as_scores_tensor(module(inputs))
    seen = observe(module, inputs)
    errors = [_errors(operation) for operation in seen.operations]
    return Proof(
        operations=len(errors),
        outputs_identical=torch.equal(plain, seen.outputs),
        product_error=max(product for product, _ in errors),
        row_sum_error=max(row_sum for _, row_sum in errors),
        tolerance=max(tolerance(operation) for operation in seen.operations),
    )


def _errors(operation: AttentionOperation) -> tuple[float, float]:
    product = row_sum = 0.0
    for block in operation.row_blocks():
        product = max(product, _product_error(operation, block.rows, block.attn))
        sums = block.attn.sum(dim=-1)
        if operation.normalizer == "softmax":
            row_sum = max(row_sum, _largest(torch.where(sums == 0, 0.0, sums - 1)))
    return product, row_sum


def _product_error(operation: AttentionOperation, rows: torch.Tensor, attn: torch.Tensor) -> float:
    output = wide(operation.output.detach())
    difference = operation.mixed(attn) @ wide(operation.value) - output[:, :, rows]
    return _largest(difference) / max(_largest(output), 1e-30)


def _largest(values: torch.Tensor) -> float:
    """Return the largest magnitude; not-a-number counts as infinite."""
    return float(values.abs().nan_to_num(nan=float("inf")).max())
