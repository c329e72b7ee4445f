"""Shapes: what views, permutations and reshapes do to scores and weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from visattn.observation.arithmetic import flat, same
from visattn.observation.axes import NEW, inner, swapped, viewed, with_inner
from visattn.observation.call import Call, is_tensor
from visattn.observation.following import Scores, Weights

if TYPE_CHECKING:
    from visattn.observation.observer import Observer


def viewing(observer: Observer, call: Call) -> None:
    """Follow permutations, slices and new axes."""
    source, result = call.source, call.result
    if not is_tensor(source) or not observer.knows(source):
        return
    results = result if isinstance(result, (tuple, list)) else (result,)
    if any(is_tensor(part) for part in flat(call.args[1:])):
        return
    origins = viewed(call.func, source.shape, call.args[1:], call.kwargs)
    for part, origin in zip(results, origins, strict=True):
        if source in observer.scores:
            _view_scores(observer, source, part, origin)
        else:
            _view_weights(observer, source, part, origin)


def _view_scores(
    observer: Observer, source: torch.Tensor, part: torch.Tensor, origin: tuple[int, ...]
) -> None:
    scores: Scores = observer.scores[source]
    whole = _whole(source, part, origin)
    labels = tuple(scores.labels[i] for i in origin) if whole and scores.labels else None
    operands, count = scores.operands, source.ndim
    if not whole or origin not in (tuple(range(count)), swapped(count)):
        operands = None
    elif origin == swapped(count) and operands is not None:
        operands, labels = operands.transposed(), tuple(range(count))
    observer.scores[part] = replace(scores, operands=operands, labels=labels)


def _view_weights(
    observer: Observer, source: torch.Tensor, part: torch.Tensor, origin: tuple[int, ...]
) -> None:
    weights: Weights = observer.weights[source]
    if weights.axis is None or weights.axis not in origin:
        return
    axis = origin.index(weights.axis)
    own = source if weights.source is None and not weights.altered else weights.source
    if _whole(source, part, origin) and weights.labels is not None:
        labels = tuple(weights.labels[i] for i in origin)
        kept = replace(weights, source=own, labels=labels)
    elif weights.mixing is not None or part.shape[axis] != weights.size:
        kept = weights.changed()
    else:
        kept = replace(weights, source=None, labels=None, operands=None, factors=None)
    observer.weights[part] = replace(
        kept, axis=axis, size=part.shape[axis], inner=inner(part.shape, axis)
    )


def reshaping(observer: Observer, call: Call) -> None:
    """Follow reshapes, which keep the row-major order."""
    source, result = call.source, call.result
    if not is_tensor(source) or not observer.knows(source) or not is_tensor(result):
        return
    if source.shape == result.shape:
        same(observer, call)
    elif source in observer.scores:
        scores = observer.scores[source]
        kept = source.shape[-2:] == result.shape[-2:]
        operands = scores.operands if kept else None
        if operands is not None:
            operands = operands.reshaped(source.shape[:-2], result.shape[:-2])
        labels = tuple(range(result.ndim)) if operands is not None else None
        observer.scores[result] = replace(scores, operands=operands, labels=labels)
    else:
        _reshape_weights(observer, source, result)


def _reshape_weights(observer: Observer, source: torch.Tensor, result: torch.Tensor) -> None:
    weights: Weights = observer.weights[source]
    operands = weights.operands
    whole = weights.labels == tuple(range(source.ndim)) and source.shape[-2:] == result.shape[-2:]
    if operands is not None:
        operands = operands.reshaped(source.shape[:-2], result.shape[:-2]) if whole else None
    kept = weights.changed() if weights.mixing is not None else weights
    observer.weights[result] = replace(
        kept,
        axis=with_inner(result.shape, weights.size, weights.inner),
        source=None,
        operands=operands,
        labels=tuple(range(result.ndim)) if operands is not None else None,
        factors=None,
    )


def _whole(source: torch.Tensor, part: torch.Tensor, origin: tuple[int, ...]) -> bool:
    complete = part.ndim == source.ndim and NEW not in origin
    return complete and all(part.shape[i] == source.shape[o] for i, o in enumerate(origin))
