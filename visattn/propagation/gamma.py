"""Gamma: the generalised gamma rule of layers that are linear in their input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd import Function

from visattn.propagation.call import Call, is_activation, owned

Run = Callable[[torch.Tensor], torch.Tensor]


@dataclass(eq=False)
class Layer:
    """``z_j = sum_i x_i W_ij + b_j`` and how its outputs share relevance out.

    For ``z_j >= 0`` contributions ``c_ij = x_i W_ij`` get ``(c + g c^+) / sum (c + g c^+)`` of the
    relevance, for ``z_j < 0`` the same with ``c^-``; the bias is one of them. Because
    ``2 c^+ = c + |c|`` and ``2 c^- = c - |c|``, one more product, of absolute values, is enough
    in each direction.

    Attributes:
        product: from x and whether absolute weights are meant to ``x W`` or ``x |W|``.
        bias: b, in a shape that adds to the output, or None.
        gamma: g; infinity leaves ``c^+ / sum c^+``.
        transposed: from a gradient by the output and whether absolute weights are meant to the
            gradient by x; None to differentiate the product, which runs it once more.
        ratio: ``sign(z) z / d``, d the divisor above over 1 + g; known after the layer ran.
    """

    product: Callable[[torch.Tensor, bool], torch.Tensor]
    bias: torch.Tensor | None
    gamma: float
    transposed: Callable[[torch.Tensor, bool], torch.Tensor] | None = None
    ratio: torch.Tensor = field(init=False)

    @property
    def parts(self) -> tuple[float, float]:
        """Weights of c and of c^+ (or c^-), which add up to 1."""
        whole = self.gamma == float("inf")
        return (0.0, 1.0) if whole else (1 / (1 + self.gamma), self.gamma / (1 + self.gamma))

    def measure(self, source: torch.Tensor, output: torch.Tensor) -> None:
        """Set the ratio."""
        rest, part = self.parts
        size = self.product(source.abs(), True)
        size = size if self.bias is None else size + self.bias.abs()
        sign = torch.where(output >= 0, 1.0, -1.0).to(output.dtype)
        divisor = rest * output + part / 2 * (output + sign * size)
        self.ratio = sign * (output / divisor).masked_fill(output == 0, 0.0)

    def pull(self, source: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """Return ``(1 + g/2) W s + g/2 sign(x) |W| (sign(z) s)`` over 1 + g, s what z hands on."""
        rest, part = self.parts
        plain = self._transposed(source, gradient * self.ratio.abs(), absolute=False)
        size = self._transposed(source, gradient * self.ratio, absolute=True)
        return (rest + part / 2) * plain + part / 2 * source.sign() * size

    def share(self) -> torch.Tensor | None:
        """Return what times the gradient by z is the relevance of the bias."""
        if self.bias is None:
            return None
        rest, part = self.parts
        plain = (rest + part / 2) * self.bias * self.ratio.abs()
        return plain + part / 2 * self.bias.abs() * self.ratio

    def _transposed(
        self, source: torch.Tensor, gradient: torch.Tensor, *, absolute: bool
    ) -> torch.Tensor:
        if self.transposed is not None:
            return self.transposed(gradient, absolute)
        with torch.enable_grad():
            at = source.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.product(at, absolute), at, gradient)
        return found


class Gamma(Function):
    """A layer in the forward pass; backward the gamma rule."""

    @staticmethod
    def forward(ctx: Any, source: torch.Tensor, run: Run, layer: Layer) -> torch.Tensor:
        """Return ``run(source)``."""
        output = owned(run(source))
        layer.measure(source, output)
        ctx.layer = layer
        ctx.save_for_backward(source)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Return the gradient by the input."""
        (source,) = ctx.saved_tensors
        return ctx.layer.pull(source, gradients[0]), None, None


def layer_output(call: Call, source: torch.Tensor, run: Run, layer: Layer) -> torch.Tensor:
    """Return ``run(source)`` under the gamma rule, its bias noted; plainly for gamma = 0.

    Layers behind the pool, which act on one vector per image, always are plain: there the class is
    told from other classes, and what speaks against it is not to be played down.
    """
    if not layer.gamma or (is_pooled(source) and not call.nested):
        return call.noted(run(source), layer.bias)
    result: torch.Tensor = Gamma.apply(source, run, layer)
    return call.noted(result, layer.share())


def is_pooled(source: torch.Tensor) -> bool:
    """Return whether a tensor is (batch, channel), or a feature map of one place."""
    return source.ndim == 2 or (source.ndim > 3 and math.prod(source.shape[2:]) == 1)


def product_with_constant(call: Call, one: Any, other: Any) -> Any:
    """Run a product of an activation and a constant, in either order: a layer without bias."""
    first = is_activation(one)
    if not call.rules.linear or not (first or is_activation(other)):
        return call.plain()
    source, constant = (one, other) if first else (other, one)

    def product(tensor: torch.Tensor, absolute: bool) -> torch.Tensor:
        matrix = constant.abs() if absolute else constant
        result: torch.Tensor = call.func(*((tensor, matrix) if first else (matrix, tensor)))
        return result

    layer = Layer(product, None, call.rules.linear)
    return layer_output(call, source, lambda tensor: product(tensor, False), layer)
