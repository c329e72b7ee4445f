"""Recovery: the shortest exact description of observed weights."""

from __future__ import annotations

from dataclasses import replace

import torch

from visattn.observation.arrangement import in_four_axes
from visattn.observation.following import Operands, Weights, broadcasts
from visattn.observation.operation import AttentionOperation, wide

TOLERANCE = {torch.float64: 1e-9, torch.float16: 1e-2, torch.bfloat16: 5e-2}
SINGLE = 1e-4


def recovered(
    operation: AttentionOperation,
    attn: torch.Tensor,
    operands: Operands | None,
    weights: Weights | None,
    leading: torch.Size,
) -> AttentionOperation:
    """Return the operation with query and key where they give back ``attn``, else with ``attn``.

    ``attn`` (..., query, key) are the weights before any mixing of heads; fused attention, which
    has none (``weights`` is None), is taken at its operands.
    """
    if weights is not None and weights.mixing is not None:
        operation = replace(operation, mixing=weights.mixing, mixing_bias=weights.mixing_bias)
        leading = torch.Size((*leading[:-1], weights.mixing.shape[1]))
    known = None if operands is None else _with_operands(operation, operands, leading)
    if weights is None:
        return known or operation
    explicit = in_four_axes(attn.detach(), leading)
    if known is not None and operands is not None and _gives_back(known, explicit, operands.dtype):
        return known
    normalizer = "softmax" if _sums_to_one(explicit, altered=weights.altered) else "none"
    return replace(operation, explicit=explicit, normalizer=normalizer)


def _with_operands(
    operation: AttentionOperation, operands: Operands, leading: torch.Size
) -> AttentionOperation | None:
    query, key = operands.query.detach(), operands.key.detach()
    if not all(broadcasts(part.shape[:-2], leading) for part in (query, key)):
        return None
    bias = operands.bias
    if bias is not None and bias.ndim > 2 and len(leading) != 2:
        bias = in_four_axes(bias, leading) if broadcasts(bias.shape[:-2], leading) else None
    known = replace(
        operation,
        query=in_four_axes(query, leading),
        key=in_four_axes(key, leading),
        scale=operands.scale,
        bias=None if bias is None else bias.detach(),
    )
    return known if known.query.shape[2] == operation.shape[2] else None  # type: ignore[union-attr]


def _gives_back(known: AttentionOperation, explicit: torch.Tensor, dtype: torch.dtype) -> bool:
    """Return whether the operands give back the model's own weights, row for row."""
    if known.shape != tuple(explicit.shape):
        return False
    if explicit.is_meta:
        return True
    limit = max(TOLERANCE.get(kind, SINGLE) for kind in (known.output.dtype, dtype))
    for block in known.row_blocks():
        own = wide(explicit[:, :, block.rows])
        largest = own.amax(dim=-1, keepdim=True)
        if not ((block.attn - own).abs() <= limit * largest).all():
            return False
    return True


def _sums_to_one(explicit: torch.Tensor, *, altered: bool) -> bool:
    """Return whether rows sum to one; on the meta device, whether they were left alone."""
    if explicit.is_meta:
        return not altered
    limit = {torch.float16: 2e-2, torch.bfloat16: 1e-1}.get(explicit.dtype, 1e-4)
    return bool(((explicit.sum(dim=-1, dtype=wide(explicit).dtype) - 1).abs() <= limit).all())
