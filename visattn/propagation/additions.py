"""Additions: a branch to its own input, constants to activations."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function

from visattn.propagation.ancestry import descends
from visattn.propagation.call import Call, Handlers, is_activation, named, settled


class Residual(Function):
    """``z = a + b``; backward the rule of ResLRP.

    With ``w(z') = 1 + gamma 1[sign z' = sign z]`` the gradient that enters branch a is multiplied
    by ``w(a) z / (w(a) a + w(b) b)``, and by 0 where z = 0. The denominator has the sign of z and
    is never smaller, so nothing explodes.
    """

    @staticmethod
    def forward(ctx: Any, one: torch.Tensor, other: torch.Tensor, gamma: float) -> torch.Tensor:
        """Return the sum."""
        ctx.gamma = gamma
        ctx.save_for_backward(one, other)
        return one + other

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Return the gradients of both summands."""
        one, other = ctx.saved_tensors
        total = one + other
        weights = [1 + ctx.gamma * (z.sign() == total.sign()) for z in (one, other)]
        divisor = weights[0] * one + weights[1] * other
        shared = gradients[0] * (total / divisor).masked_fill(total == 0, 0.0)
        first, second = (
            (shared * weight).sum_to_size(z.shape)
            for weight, z in zip(weights, (one, other), strict=True)
        )
        return first, second, None


def addition(call: Call) -> Any:
    """Run an addition of two tensors."""
    one, other = call.given(0, "input"), call.given(1, "other")
    factor = call.kwargs.get("alpha", 1)
    if is_activation(one) and is_activation(other):
        gamma = call.rules.residual
        if not gamma or factor != 1 or not (descends(one, other) or descends(other, one)):
            return call.plain()
        if not call.in_place:
            return Residual.apply(one, other, gamma)
        return settled(one, Residual.apply(one.clone(), other, gamma))
    if call.ledger is None:
        return call.plain()
    constant = one if is_activation(other) else other * factor
    if call.in_place and is_activation(one):
        return settled(one, call.noted(torch.add(one, other, alpha=factor), constant))
    return call.noted(call.plain(), constant)


def subtraction(call: Call) -> Any:
    """Run a subtraction; what is constant in it is noted."""
    one, other = call.given(0, "input"), call.given(1, "other")
    if call.ledger is None or is_activation(one) == is_activation(other):
        return call.plain()
    reflected = getattr(call.func, "__name__", "") == "__rsub__"
    added, taken = (other, one) if reflected else (one, other)
    constant = -taken * call.kwargs.get("alpha", 1) if is_activation(added) else added
    if call.in_place and is_activation(one):
        return settled(one, call.noted(torch.sub(one, other, **call.kwargs), constant))
    return call.noted(call.plain(), constant)


def joining(call: Call) -> Any:
    """Run ``cat`` or ``stack``; constants among the parts (class token, registers) are noted."""
    result, parts = call.plain(), call.given(0, "tensors")
    active = [is_activation(part) for part in parts]
    if call.ledger is not None and any(active) and not all(active):
        with torch.no_grad():
            constants = [
                torch.zeros_like(part) if activation else part
                for part, activation in zip(parts, active, strict=True)
            ]
            joined = call.run({0: ("tensors", constants)})
        return call.noted(result, joined)
    return result


HANDLERS: Handlers = {
    **dict.fromkeys(named("add add_ __add__ __radd__ __iadd__"), addition),
    **dict.fromkeys(named("sub sub_ subtract __sub__ __isub__ __rsub__"), subtraction),
    **dict.fromkeys(named("cat concat concatenate stack"), joining),
}
