"""Scaled: the identity whose gradient is multiplied by a number."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function


class Scaled(Function):
    """Identity in the forward pass; the gradient is multiplied by ``factor``."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, factor: float) -> torch.Tensor:
        """Return the tensor."""
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the scaled gradient."""
        return gradients[0] * ctx.factor, None


def scaled(tensor: torch.Tensor, factor: float) -> torch.Tensor:
    """Return ``factor * x + (1 - factor) * [x]cst``, which is x bit for bit."""
    if not tensor.requires_grad or factor == 1:
        return tensor
    if factor == 0:
        return tensor.detach()
    result: torch.Tensor = Scaled.apply(tensor, factor)
    return result
