"""Products: where weights meet a value, in every form in which that is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from visattn.errors import CaptureError
from visattn.observation.axes import swapped
from visattn.observation.broadcast import Broadcast
from visattn.observation.call import Call
from visattn.observation.einsum import Reading, read
from visattn.observation.following import Operands, Scores, Weights
from visattn.observation.other import ACROSS_BATCH, GATE, LINEAR, POOLING, UNREAD
from visattn.observation.product import Product, as_it_is, transposed

if TYPE_CHECKING:
    from visattn.observation.observer import Observer


def fused(observer: Observer, call: Call) -> None:
    """Record one call of ``scaled_dot_product_attention``."""
    _fused(observer, call.result, *call.args, **call.kwargs)


def _fused(
    observer: Observer,
    output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> None:
    if dropout_p:
        raise CaptureError(
            f"{observer.caller()[0]}: attention with dropout {dropout_p} is not deterministic; "
            "put the model into eval mode and do not pass dropout_p."
        )
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(groups, dim=-3) for t in (key, value))
    bias = _causal(query, key) if is_causal else additive(attn_mask, query.dtype)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    operands = Operands(query, key, factor, bias, output.dtype)
    observer.record(Product(query, value, output, as_it_is), operands)


def additive(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """Return a mask as something to add to scores: False means minus infinity."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(~mask, float("-inf"))


def _causal(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    shape = (query.shape[-2], key.shape[-2])
    return torch.full(shape, float("-inf"), device=query.device, dtype=query.dtype).triu(1)


def product(observer: Observer, call: Call) -> None:
    """Follow a matrix product: the end of an attention, or perhaps the beginning of one."""
    (left, right), result = call.pair, call.result
    if not (isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)):
        return
    if left in observer.weights or right in observer.weights:
        _meets_value(observer, left, right, result)
    elif _linear(observer, left, right):
        return
    elif (left.ndim >= 2 and right.ndim >= 3) or left.ndim == right.ndim == 2:
        operands = Operands(left, right.transpose(-2, -1), dtype=result.dtype)
        observer.scores[result] = Scores(operands, tuple(range(result.ndim)))


def _linear(observer: Observer, left: torch.Tensor, right: torch.Tensor) -> bool:
    """Note linear attention: a product of keys and values, without softmax, meets queries."""
    for part in (left, right):
        scores: Scores | None = observer.scores.get(part)
        if scores is None or min(left.ndim, right.ndim) < 3:
            continue
        detail = f"a product of shape {tuple(part.shape)} is a factor of the next product"
        if scores.origin is None:
            observer.other(LINEAR, detail)
        else:
            observer.withdraw(scores.origin, LINEAR, detail)
        return True
    return False


def _meets_value(
    observer: Observer, left: torch.Tensor, right: torch.Tensor, result: torch.Tensor
) -> None:
    on_left = left in observer.weights
    attn, value = (left, right) if on_left else (right, left)
    weights: Weights = observer.weights[attn]
    observer.claim(weights.ticket)
    if not weights.scored and _linear(observer, left, right):
        return
    if min(left.ndim, right.ndim) < 2:
        observer.other(UNREAD, f"{tuple(left.shape)} @ {tuple(right.shape)}")
        return
    contracted = left.ndim - 1 if on_left else right.ndim - 2
    if weights.axis != contracted:
        detail = f"softmax along axis {weights.axis} of {tuple(attn.shape)}, not the one summed"
        observer.other(UNREAD if weights.scored else LINEAR, detail)
        return
    order = tuple(range(attn.ndim)) if on_left else swapped(attn.ndim)
    bring = as_it_is if on_left else transposed
    finish(observer, attn, order, Product(bring(attn), bring(value), bring(result), bring), result)


def finish(
    observer: Observer,
    attn: torch.Tensor,
    order: tuple[int, ...] | None,
    found: Product,
    result: torch.Tensor,
) -> None:
    """Record a product of ``attn``, permuted by ``order``, with a value, or say what it is."""
    weights: Weights = observer.weights[attn]
    kind = _kind(found, weights)
    if kind is not None:
        observer.other(kind, f"weights {tuple(attn.shape)}, value {tuple(found.value.shape)}")
        return
    operands, source = None, attn if weights.source is None else weights.source
    if order is None or weights.labels is None:
        weights = weights.changed() if weights.mixing is not None else weights
        operands = weights.operands if order == tuple(range(attn.ndim)) else None
    else:
        labels = tuple(weights.labels[axis] for axis in order)
        operands = weights.operands_as(labels)
        found = found._replace(weights=source.permute(labels))
    operation = observer.record(found, operands, weights, live=result)
    if not weights.scored:
        observer.scores[result] = Scores(None, None, origin=operation.name)


def _kind(found: Product, weights: Weights) -> str | None:
    """Return what a product is if it is no attention operation, else None."""
    if found.output.ndim == 2:
        return ACROSS_BATCH if weights.scored else POOLING
    if weights.scored:
        return None
    if found.weights.shape[-2] == 1:
        return POOLING
    return LINEAR if weights.altered else None


def contraction(observer: Observer, call: Call) -> None:
    """Follow an einsum over two tensors."""
    (equation, *tensors), result = call.args, call.result
    parts = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)) else tensors
    tracked = [part for part in parts if part in observer.weights]
    if len(parts) != 2 or not isinstance(equation, str):
        for part in tracked:
            observer.claim(observer.weights[part].ticket)
            observer.other(UNREAD, f"einsum {equation!r} of {len(parts)} tensors")
        return
    left, right = parts
    if tracked:
        _contracted(observer, read(equation, left, right, swap=right in observer.weights), result)
    else:
        _scored(observer, read(equation, left, right, swap=False), result)


def _scored(observer: Observer, reading: Reading | None, result: torch.Tensor) -> None:
    if reading is None or len(reading.summed) != 1:
        return
    if not (reading.shared and reading.rows and reading.columns):
        return
    if _linear(observer, reading.left, reading.right):
        return
    operands = None
    if reading.is_matrix_product:
        query, key = reading.left_matrix, reading.right_matrix.transpose(-2, -1)
        operands = Operands(query, key, dtype=result.dtype)
    observer.scores[result] = Scores(operands, tuple(range(result.ndim)))


def _contracted(observer: Observer, reading: Reading | None, result: torch.Tensor) -> None:
    if reading is None:
        observer.other(UNREAD, "einsum that repeats an index or sums within one factor")
        return
    attn = reading.left
    weights: Weights = observer.weights[attn]
    observer.claim(weights.ticket)
    if not weights.scored and _linear(observer, reading.left, reading.right):
        return
    if weights.axis is None or reading.summed != reading.letters[0][weights.axis]:
        detail = f"einsum of {', '.join(reading.letters[:2])} does not sum along the softmax"
        observer.other(UNREAD if weights.scored else LINEAR, detail)
        return
    found = Product(reading.left_matrix, reading.right_matrix, reading.bring(result), reading.bring)
    finish(observer, attn, reading.left_order, found, result)


def summation(observer: Observer, call: Call) -> None:
    """Follow ``(weights * value).sum(axis)``."""
    source, result = call.source, call.result
    if not isinstance(source, torch.Tensor) or source not in observer.weights:
        return
    weights: Weights = observer.weights[source]
    dim = call.given(1, "dim", "axis")
    dims = (dim,) if isinstance(dim, int) else tuple(dim or ())
    if weights.factors is None or [axis % source.ndim for axis in dims] != [weights.axis]:
        return
    attn, known, value = weights.factors
    observer.claim(known.ticket)
    keep = bool(call.given(2, "keepdim", default=False))
    summed = Broadcast(source.shape, weights.axis or 0, attn, value)
    if not known.scored and summed.queries == 1:
        kind = POOLING if summed.channels == 1 else GATE
        observer.other(kind, f"weights {tuple(attn.shape)}, value {tuple(value.shape)}")
        return
    found = summed.product(result if keep else result.unsqueeze(summed.axis), keep=keep)
    observer.record(
        found, None, known.changed() if known.mixing is not None else known, live=result
    )
