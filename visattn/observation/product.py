"""Product: weights times value, brought to the order of an attention operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

Bring = Callable[[torch.Tensor], torch.Tensor]


class Product(NamedTuple):
    """A product of weights with a value.

    Attributes:
        weights: (..., query, key), whose leading axes broadcast to those of the output.
        value: (..., key, channel).
        output: (..., query, channel).
        bring: turns a tensor like the result of the model's function into one like ``output``.
    """

    weights: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor
    bring: Bring


class Live(NamedTuple):
    """Where the gradient of an operation is taken.

    Attributes:
        tensor: a tensor in the graph.
        bring: turns a gradient by it into one by the operation's output.
    """

    tensor: torch.Tensor
    bring: Bring


def as_it_is(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor."""
    return tensor


def transposed(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor with its last two axes exchanged."""
    return tensor.transpose(-2, -1)
