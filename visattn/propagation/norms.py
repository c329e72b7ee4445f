"""Normalisations: the standard deviation is constant, the mean stays linear."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional

from visattn.propagation.call import Call, Handlers, is_activation, named, owned, settled, wide


class Normalized(Function):
    """A normalisation in the forward pass; backward the linear map that it is on this input."""

    @staticmethod
    def forward(
        ctx: Any, source: torch.Tensor, run: Callable[[torch.Tensor], torch.Tensor], how: Statistics
    ) -> torch.Tensor:
        """Return ``run(source)``."""
        ctx.how, ctx.dtype = how, source.dtype
        return owned(run(source))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return ``w g / std``, less its mean where the mean was subtracted."""
        return ctx.how.pull(wide(gradients[0])).to(ctx.dtype), None, None


@dataclass(frozen=True, eq=False)
class Statistics:
    """What a normalisation divides by, and over which values.

    Attributes:
        inverse: one over the standard deviation or root mean square, in the grouped shape.
        weight: what follows it, in a shape that multiplies the tensor; None for nothing.
        grouped: shape in which ``dims`` hold the values of one statistic.
        dims: these dimensions.
        centred: whether the mean was subtracted.
    """

    inverse: torch.Tensor
    weight: torch.Tensor | None
    grouped: tuple[int, ...]
    dims: tuple[int, ...]
    centred: bool

    @classmethod
    def of(
        cls,
        source: torch.Tensor,
        grouped: tuple[int, ...],
        dims: tuple[int, ...],
        eps: float,
        weight: torch.Tensor | None,
        *,
        centred: bool = True,
    ) -> Statistics:
        """Measure a tensor."""
        values = wide(source.detach()).reshape(grouped)
        if centred:
            square = values.var(dims, correction=0, keepdim=True)
        else:
            square = values.square().mean(dims, keepdim=True)
        return cls((square + eps).rsqrt(), weight, grouped, dims, centred)

    def pull(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient by the tensor that was normalised."""
        weighted = gradient if self.weight is None else gradient * self.weight
        parts = weighted.reshape(self.grouped)
        if self.centred:
            parts = parts - parts.mean(self.dims, keepdim=True)
        return (parts * self.inverse).reshape(gradient.shape)


def layer_norm(call: Call) -> Any:
    """Run ``layer_norm(input, normalized_shape, weight, bias, eps)``."""
    source, weight = call.given(0, "input"), call.given(2, "weight")
    if call.rules.norm != "detached" or not is_activation(source):
        return call.noted(call.plain(), call.given(3, "bias"))
    dims = _last(call.given(1, "normalized_shape"))
    eps = call.given(4, "eps", default=1e-5)
    how = Statistics.of(source, tuple(source.shape), dims, eps, weight)
    return call.noted(_normalized(call, source, how), call.given(3, "bias"))


def rms_norm(call: Call) -> Any:
    """Run ``rms_norm(input, normalized_shape, weight, eps)``."""
    source, weight = call.given(0, "input"), call.given(2, "weight")
    if call.rules.norm != "detached" or not is_activation(source):
        return call.plain()
    eps = call.given(3, "eps")
    eps = torch.finfo(source.dtype).eps if eps is None else eps
    dims = _last(call.given(1, "normalized_shape"))
    how = Statistics.of(source, tuple(source.shape), dims, eps, weight, centred=False)
    return _normalized(call, source, how)


def group_norm(call: Call) -> Any:
    """Run ``group_norm(input, num_groups, weight, bias, eps)``."""
    source, bias = call.given(0, "input"), call.given(3, "bias")
    bias = None if bias is None else _per_channel(bias, source)
    if call.rules.norm != "detached" or not is_activation(source):
        return call.noted(call.plain(), bias)
    weight, eps = call.given(2, "weight"), call.given(4, "eps", default=1e-5)
    size = math.prod(source.shape[1:]) // call.given(1, "num_groups")
    grouped = (source.shape[0], call.given(1, "num_groups"), size)
    weight = None if weight is None else _per_channel(weight, source)
    how = Statistics.of(source, grouped, (2,), eps, weight)
    return call.noted(_normalized(call, source, how), bias)


def batch_norm(call: Call) -> Any:
    """Run ``batch_norm``, which is linear with running statistics; its shift is a constant."""
    names = ("input", "running_mean", "running_var", "weight", "bias")
    source, mean, variance, weight, bias = (call.given(i, name) for i, name in enumerate(names))
    result = call.plain()
    if call.given(5, "training", default=False) or mean is None or not is_activation(source):
        return result
    if call.ledger is not None:
        eps = call.given(7, "eps", default=1e-5)
        scale = (wide(variance) + eps).rsqrt() * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - mean * scale
        return call.noted(result, _per_channel(shift, source))
    return result


def normalize(call: Call) -> Any:
    """Run ``normalize(input, p, dim, eps)``: the norm that divides is constant."""
    source, p = call.given(0, "input"), call.given(1, "p", default=2.0)
    if call.rules.norm != "detached" or not is_activation(source):
        return call.plain()
    dim, eps = call.given(2, "dim", default=1), call.given(3, "eps", default=1e-12)
    norm = torch.linalg.vector_norm(wide(source.detach()), p, dim, keepdim=True).clamp_min(eps)
    how = Statistics(norm.reciprocal(), None, tuple(source.shape), (), centred=False)
    return _normalized(call, source, how)


def reciprocal(call: Call) -> Any:
    """Run ``rsqrt`` or ``reciprocal``: what a normalisation written out multiplies by."""
    source = call.given(0, "input")
    if call.rules.norm != "detached" or not is_activation(source):
        return call.plain()
    result = call.run({0: ("input", source.detach().clone())})
    return settled(source, result) if call.in_place else result


def division(call: Call) -> Any:
    """Run a division: what divides is constant."""
    divisor = call.given(1, "other")
    if call.rules.norm != "detached" or not is_activation(divisor):
        return call.plain()
    return call.run({1: ("other", divisor.detach())})


def _normalized(call: Call, source: torch.Tensor, how: Statistics) -> Any:
    def run(tensor: torch.Tensor) -> Any:
        return call.run({0: ("input", tensor)})

    result: Any = Normalized.apply(source, run, how)
    return settled(source, result) if call.in_place else result


def _last(shape: Any) -> tuple[int, ...]:
    return tuple(range(-(1 if isinstance(shape, int) else len(shape)), 0))


def _per_channel(values: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    return values.reshape(-1, *[1] * (source.ndim - 2))


HANDLERS: Handlers = {
    **dict.fromkeys(named("layer_norm"), layer_norm),
    **dict.fromkeys(named("rms_norm"), rms_norm),
    **dict.fromkeys(named("group_norm"), group_norm),
    functional.batch_norm: batch_norm,
    functional.normalize: normalize,
    **dict.fromkeys(named("rsqrt rsqrt_ reciprocal reciprocal_ __rdiv__ __rtruediv__"), reciprocal),
    **dict.fromkeys(named("div div_ divide true_divide __truediv__ __itruediv__"), division),
}
