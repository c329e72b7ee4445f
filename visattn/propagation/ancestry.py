"""What a tensor was computed from, read off the graph of the pass."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

import torch

SOFTMAX = frozenset({"SoftmaxBackward0"})
GATES = frozenset({"SigmoidBackward0", "HardsigmoidBackward0", "ErfBackward0", "SquashedBackward"})
FAR = 64


def passes_only(tensor: torch.Tensor, kinds: Container[str]) -> bool:
    """Return whether everything that a tensor depends on passes through a function of ``kinds``.

    So are attention weights told from values, also behind masks, dropout, reshaping or mixed
    heads. Gives up with False at `FAR` functions, and at the input.
    """
    if tensor.grad_fn is None:
        return False
    waiting: list[Any] = [tensor.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if node.name() in kinds:
            continue
        parents = list(_parents(node))
        if not parents or len(seen) > FAR:
            return False
        fresh = [parent for parent in parents if parent not in seen]
        waiting.extend(fresh)
        seen.update(fresh)
    return True


def descends(tensor: torch.Tensor, ancestor: torch.Tensor) -> bool:
    """Return whether ``tensor`` was computed from ``ancestor`` (and is not the same)."""
    goal = _node(ancestor)
    if goal is None or tensor.grad_fn is None or tensor.grad_fn is goal:
        return False
    oldest = _age(goal)
    waiting: list[Any] = [tensor.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        for parent in _parents(node):
            if parent is goal:
                return True
            # What was made before the ancestor cannot have been made from it.
            if parent not in seen and _age(parent) > oldest:
                seen.add(parent)
                waiting.append(parent)
    return False


def _parents(node: Any) -> Iterator[Any]:
    return (parent for parent, _ in node.next_functions if parent is not None)


def _node(tensor: torch.Tensor) -> Any:
    """Return the node whose gradient is that of the tensor; of a leaf its accumulator."""
    if tensor.grad_fn is not None or not tensor.requires_grad:
        return tensor.grad_fn
    view: Any = tensor.view_as(tensor).grad_fn
    return view.next_functions[0][0]


def _age(node: Any) -> int:
    """Return a number that grows with every function; the input stands before all."""
    return -1 if node.name().endswith("AccumulateGrad") else int(node._sequence_nr())  # noqa: SLF001
