"""Arithmetic: what functions that work number by number do to scores and weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from visattn.observation.axes import inner
from visattn.observation.call import Call, is_tensor
from visattn.observation.following import Scores, Weights

if TYPE_CHECKING:
    from visattn.observation.observer import Observer


def multiplication(observer: Observer, call: Call) -> None:
    """Follow ``scores * factor``, ``weights * gate`` and the first half of ``(w * v).sum()``."""
    (left, right), result = call.pair, call.result
    if is_tensor(right) and not (
        is_tensor(left) and (left in observer.scores or left in observer.weights)
    ):
        left, right = right, left
    if not is_tensor(left):
        return
    if left in observer.scores:
        scores = observer.scores[left]
        operands = scores.operands and scores.operands.scaled(_factor(right))
        _keep_scores(observer, left, result, replace(scores, operands=operands))
    elif left in observer.weights:
        _weighted(observer, left, right, result)


def _weighted(observer: Observer, left: torch.Tensor, right: Any, result: torch.Tensor) -> None:
    weights: Weights = observer.weights[left]
    if not is_tensor(right):
        observer.weights[result] = weights.changed()
        return
    axis = weights.axis
    if axis is None:
        return
    place = axis + result.ndim - left.ndim
    if result.shape[place] != weights.size:
        return
    factors = None if result is left else (left, weights, right)
    observer.weights[result] = replace(
        weights.changed(), axis=place, inner=inner(result.shape, place), factors=factors
    )


def division(observer: Observer, call: Call) -> None:
    """Follow ``scores / factor`` and ``weights / sum``."""
    (left, right), result = call.pair, call.result
    if not is_tensor(left):
        return
    if left in observer.scores:
        scores, factor = observer.scores[left], _factor(right)
        operands = scores.operands and scores.operands.scaled(1.0 / factor)
        _keep_scores(observer, left, result, replace(scores, operands=operands))
    elif left in observer.weights:
        _change(observer, left, result)


def addition(observer: Observer, call: Call) -> None:
    """Follow ``scores + bias`` and sums of weights."""
    (left, right), result = call.pair, call.result
    if not (is_tensor(left) and left.shape == result.shape and observer.knows(left)):
        left, right = right, left
    if not (is_tensor(left) and left.shape == result.shape):
        return
    if left in observer.scores:
        scores = observer.scores[left]
        operands = scores.operands
        if operands and is_tensor(right):
            plain = call.kwargs.get("alpha", 1) == 1
            operands = operands.biased(right.detach()) if plain else None
        _keep_scores(observer, left, result, replace(scores, operands=operands, origin=None))
    elif left in observer.weights:
        both = is_tensor(right) and right in observer.weights
        scored = both and observer.weights[right].scored
        if both:
            observer.claim(observer.weights[right].ticket)
        _change(observer, left, result, scored=scored)


def subtraction(observer: Observer, call: Call) -> None:
    """Follow ``scores - largest`` and differences of weights."""
    (left, right), result = call.pair, call.result
    if is_tensor(left) and left in observer.scores and is_tensor(right):
        scores = observer.scores[left]
        plain = scores.operands is not None and call.kwargs.get("alpha", 1) == 1
        operands = scores.operands.biased(-right.detach()) if plain else None
        _keep_scores(observer, left, result, replace(scores, operands=operands, origin=None))
    else:
        addition(observer, call)


def masking(observer: Observer, call: Call) -> None:
    """Follow ``scores.masked_fill(mask, -inf)``."""
    source, mask, value = call.source, call.given(1, "mask"), call.given(2, "value")
    result = call.result
    if source in observer.scores:
        scores = observer.scores[source]
        operands = scores.operands
        if operands is not None and not is_tensor(value):
            zeros = torch.zeros(mask.shape, dtype=result.dtype, device=result.device)
            operands = operands.biased(zeros.masked_fill(mask, float(value)))
        _keep_scores(observer, source, result, replace(scores, operands=operands))
    elif source in observer.weights:
        _change(observer, source, result)


def same(observer: Observer, call: Call) -> None:
    """Follow functions that hand their input on: dropout in eval mode, casts, contiguous."""
    source, result = call.source, call.result
    if not is_tensor(source) or source is result or not is_tensor(result):
        return
    if source in observer.scores:
        observer.scores[result] = observer.scores[source]
    elif source in observer.weights:
        weights = observer.weights[source]
        own = source if weights.source is None and not weights.altered else weights.source
        observer.weights[result] = replace(weights, source=own)


def changing(observer: Observer, call: Call) -> None:
    """Follow functions that change, move or repeat numbers, and assignments to parts."""
    tracked = [part for part in flat(call.args) if is_tensor(part) and observer.knows(part)]
    if not tracked:
        return
    source = tracked[0]
    result = source if call.result is None else call.result
    if source in observer.scores:
        scores = replace(observer.scores[source], operands=None, origin=None)
        _keep_scores(observer, source, result, scores)
        return
    axis = observer.weights[source].axis
    for other in tracked[1:]:
        if other in observer.weights:
            observer.claim(observer.weights[other].ticket)
    if axis is not None and result.ndim == source.ndim and result.shape[axis] == source.shape[axis]:
        kept = observer.weights[source].changed()
        observer.weights[result] = replace(kept, inner=inner(result.shape, axis))


def _keep_scores(observer: Observer, source: Any, result: torch.Tensor, scores: Scores) -> None:
    if result.shape == source.shape:
        observer.scores[result] = scores


def _change(
    observer: Observer, source: torch.Tensor, result: torch.Tensor, *, scored: bool = False
) -> None:
    weights: Weights = observer.weights[source]
    if result.shape == source.shape:
        kept = weights.changed()
        observer.weights[result] = replace(kept, scored=weights.scored or scored)


def _factor(value: Any) -> Any:
    return value if is_tensor(value) else float(value)


def flat(args: Any) -> list[Any]:
    """Return arguments with the members of sequences in their place."""
    return [part for arg in args for part in (arg if isinstance(arg, (tuple, list)) else (arg,))]
