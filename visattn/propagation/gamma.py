"""Gamma: the generalised gamma rule of layers that are linear in their input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Function

from visattn.propagation.call import Call, is_activation

Linear = Callable[[torch.Tensor, bool], torch.Tensor]


class Gamma(Function):
    """``z_j = sum_i x_i W_ij + b_j``; backward the gamma rule for signed inputs.

    For ``z_j >= 0`` contributions ``c_ij = x_i W_ij`` get ``(c + g c^+) / sum (c + g c^+)`` of the
    relevance, for ``z_j < 0`` the same with ``c^-``; the bias is one of them. Because
    ``2 c^+ = c + |c|`` and ``2 c^- = c - |c|``, one more product, of absolute values, is enough
    in each direction. ``g`` = infinity leaves ``c^+ / sum c^+``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        source: torch.Tensor,
        run: Callable[[torch.Tensor], torch.Tensor],
        product: Linear,
        bias: torch.Tensor | None,
        gamma: float,
    ) -> torch.Tensor:
        """Return ``run(source)``."""
        output = run(source)
        rest, part = 1 / (1 + gamma), 1.0 if gamma == float("inf") else gamma / (1 + gamma)
        sign = torch.where(output >= 0, 1.0, -1.0).to(output.dtype)
        size = product(source.abs(), True)
        size = size if bias is None else size + bias.abs()
        divisor = rest * output + part / 2 * (output + sign * size)
        ctx.product, ctx.parts = product, (rest, part)
        signed = sign * (output / divisor).masked_fill(output == 0, 0.0)
        ctx.save_for_backward(source, signed)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        """Return ``(1 + g/2) W s + g/2 sign(x) |W| (sign(z) s)``, scaled, s what z hands on."""
        source, signed = ctx.saved_tensors
        rest, part = ctx.parts
        plain = _pulled(ctx.product, source, gradients[0] * signed.abs(), absolute=False)
        size = _pulled(ctx.product, source, gradients[0] * signed, absolute=True)
        result = (rest + part / 2) * plain + part / 2 * source.sign() * size
        return result, None, None, None, None


def _pulled(
    product: Linear, source: torch.Tensor, gradient: torch.Tensor, *, absolute: bool
) -> torch.Tensor:
    with torch.enable_grad():
        at = source.detach().requires_grad_()
        (found,) = torch.autograd.grad(product(at, absolute), at, gradient)
    return found


def with_gamma(
    call: Call,
    source: torch.Tensor,
    run: Callable[[torch.Tensor], torch.Tensor],
    product: Linear,
    bias: torch.Tensor | None,
    gamma: float,
) -> torch.Tensor:
    """Return ``run(source)`` under the gamma rule; the plain gradient for gamma = 0."""
    del call
    if not gamma:
        return run(source)
    result: torch.Tensor = Gamma.apply(source, run, product, bias, gamma)
    return result


def linear_with_constant(call: Call, one: Any, other: Any) -> Any:
    """Run a product of an activation and a constant, in either order."""
    if not call.rules.linear or not (is_activation(one) or is_activation(other)):
        return call.plain()
    first = is_activation(one)
    constant = other if first else one

    def product(source: torch.Tensor, absolute: bool) -> torch.Tensor:
        matrix = constant.abs() if absolute else constant
        result: torch.Tensor = call.func(*((source, matrix) if first else (matrix, source)))
        return result

    return with_gamma(
        call, one if first else other, lambda x: product(x, False), product, None, call.rules.linear
    )
