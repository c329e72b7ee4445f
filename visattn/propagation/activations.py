"""Activation functions ``x g(x)``: the gate g is constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional

from visattn.propagation.call import Call, Handlers, is_activation, named, owned, settled, wide
from visattn.propagation.norms import reciprocal

Gate = Callable[..., torch.Tensor]


class Gated(Function):
    """An activation function in the forward pass; backward its gate multiplies the gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        source: torch.Tensor,
        run: Callable[[torch.Tensor], torch.Tensor],
        gate: Callable[[torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Return ``run(source)``."""
        ctx.gate = gate(wide(source)).to(source.dtype)
        return owned(run(source))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return ``g(x)`` times the gradient."""
        return gradients[0] * ctx.gate, None, None


class Squashed(Gated):
    """The same for functions that also serve as gates of others (see `ancestry`)."""


def gelu(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    """Return Phi(x), or its tanh approximation where the model uses it."""
    if approximate == "tanh":
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def ratio(function: Callable[..., torch.Tensor], slope: float) -> Gate:
    """Return ``x -> f(x) / x``, with its limit ``slope`` at zero."""

    def gate(x: torch.Tensor, **options: Any) -> torch.Tensor:
        found = function(x, **options) / x
        return found.masked_fill(x == 0, slope)

    return gate


def gated(gate: Gate, *options: str, kind: type[Function] = Gated) -> Callable[[Call], Any]:
    """Return the handler of an activation function with the given options of its gate."""

    def handle(call: Call) -> Any:
        source = call.given(0, "input", "self")
        if call.rules.activation != "gate" or not is_activation(source):
            return call.plain()
        found = {n: call.given(i, n) for i, n in enumerate(options, start=1)}
        chosen = {name: value for name, value in found.items() if value is not None}
        in_place = call.in_place or call.given(len(options) + 1, "inplace", default=False) is True

        def run(tensor: torch.Tensor) -> torch.Tensor:
            fresh = tensor.clone() if in_place else tensor
            result: torch.Tensor = call.run({0: ("input", fresh)})
            return result

        result: Any = kind.apply(source, run, lambda x: gate(x, **chosen))
        return settled(source, result) if in_place else result

    return handle


def power(call: Call) -> Any:
    """Run a power: negative ones divide (`norms.reciprocal`), others are ``x [x^(p-1)]cst``."""
    exponent = call.given(1, "exponent")
    if not isinstance(exponent, (int, float)) or exponent in (0, 1):
        return call.plain()
    return reciprocal(call) if exponent < 0 else POWER(call)


def raised(x: torch.Tensor, exponent: float) -> torch.Tensor:
    """Return ``x^(p-1)``; zero at zero, where the power is zero."""
    return x.pow(exponent - 1).masked_fill(x == 0, 0.0)


def glu(call: Call) -> Any:
    """Run ``glu``: ``a sigmoid(b)`` of both halves of a tensor, where the gate is constant."""
    source, dim = call.given(0, "input"), call.given(1, "dim", default=-1)
    if call.rules.activation != "gate" or not is_activation(source):
        return call.plain()
    value, gate = source.chunk(2, dim)
    return call.run({0: ("input", torch.cat([value, gate.detach()], dim))})


POWER = gated(raised, "exponent")
HANDLERS: Handlers = {
    **dict.fromkeys(named("pow pow_ __pow__ __ipow__"), power),
    **dict.fromkeys(named("square square_"), gated(lambda x: x)),
    **dict.fromkeys(named("sqrt sqrt_"), gated(lambda x: raised(x, 0.5))),
    **dict.fromkeys(named("gelu"), gated(gelu, "approximate")),
    **dict.fromkeys(named("silu silu_"), gated(torch.sigmoid)),
    **dict.fromkeys(named("mish mish_"), gated(lambda x: torch.tanh(functional.softplus(x)))),
    **dict.fromkeys(named("hardswish hardswish_"), gated(functional.hardsigmoid)),
    **dict.fromkeys(named("relu6"), gated(ratio(functional.relu6, 1.0))),
    **dict.fromkeys(named("elu elu_"), gated(ratio(functional.elu, 1.0), "alpha")),
    **dict.fromkeys(named("tanh tanh_"), gated(ratio(torch.tanh, 1.0), kind=Squashed)),
    **dict.fromkeys(named("glu"), glu),
}
