"""Rules of relevance for each kind of torch function (Chefer, Gur & Wolf, CVPR 2021).

Backward passes carry relevance R instead of gradients. ``a / z`` is stabilised as ``a / (z + 1e-9
sign z)``, and 0 where z is.

- re-indexing (views, concatenation, selection, maxima): R goes where the number came from;
- identity: norms, activation functions, softmax, dropout, additions and products of constants;
- linear and convolution: z+ on ``c = x^+ W^+ + x^- W^-``, biases ignored;
- products of two activations: ``R_a = 1/2 a (s b^T)``, ``R_b = 1/2 b (a^T s)`` with ``s = R / z``;
- sums, means and average pooling over an axis: in proportion, ``x_i R / sum_k x_k``;
- additions of two activations: in proportion, then both shares are rescaled to the ratio of the
  absolute values of their sums and to the sum of R.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import Function
from torch.nn import functional

from visattn.errors import UnsupportedMethodError
from visattn.propagation.call import is_activation, owned

STABILISER = 1e-9
BLOCK_BYTES = 2**22
Run = Callable[..., torch.Tensor]


def ratio(numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
    """Return ``a / (z + 1e-9 sign z)``, and 0 where z is 0."""
    kept = denominator + STABILISER * denominator.sign()
    return torch.where(denominator == 0, 0.0, numerator / kept.where(denominator != 0, 1.0))


class Identity(Function):
    """Any function of one activation that hands its relevance on unchanged."""

    @staticmethod
    def forward(ctx: Any, source: torch.Tensor, run: Run) -> torch.Tensor:
        """Return ``run(source)``."""
        del ctx
        return owned(run(source))

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return the relevance as it is."""
        del ctx
        return given[0], None


class Elementwise(Identity):
    """The same, where every number depends on one number."""


class Unknown(Function):
    """A function without a rule."""

    @staticmethod
    def forward(ctx: Any, result: torch.Tensor, reason: str) -> torch.Tensor:
        """Return the result."""
        ctx.reason = reason
        return result.clone()

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Refuse."""
        del given
        raise UnsupportedMethodError(ctx.reason)

    @classmethod
    def through(cls, result: Any, reason: str) -> Any:
        """Return a result through which no relevance passes."""
        return cls.apply(result, reason) if is_activation(result) else result


class ZPlus(Function):
    """A linear map of an activation with constant weights."""

    @staticmethod
    def forward(
        ctx: Any, source: torch.Tensor, weight: torch.Tensor, run: Run, linear: Run
    ) -> torch.Tensor:
        """Return ``run(source)``; ``linear(x, W)`` is the map without its bias."""
        ctx.linear = linear
        ctx.save_for_backward(source, weight)
        return owned(run(source))

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return ``sum_j c_ij R_j / sum_k c_kj`` with ``c = x^+ W^+ + x^- W^-``."""
        source, weight = ctx.saved_tensors
        weight = weight.to(source.dtype)
        with torch.enable_grad():
            parts = [
                source.clamp(min=0).requires_grad_(),
                source.clamp(max=0).requires_grad_(),
            ]
            total = ctx.linear(parts[0], weight.clamp(min=0))
            total = total + ctx.linear(parts[1], weight.clamp(max=0))
        shares = torch.autograd.grad(total, parts, ratio(given[0], total.detach()))
        moved = sum(part.detach() * share for part, share in zip(parts, shares, strict=True))
        return moved, None, None, None


class Proportional(Function):
    """A linear map without weights of its own: sums and means."""

    @staticmethod
    def forward(ctx: Any, source: torch.Tensor, run: Run) -> torch.Tensor:
        """Return ``run(source)``."""
        ctx.run = run
        result = owned(run(source))
        ctx.save_for_backward(source, result)
        return result

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return ``x dz/dx R / z``."""
        source, result = ctx.saved_tensors
        with torch.enable_grad():
            leaf = source.detach().requires_grad_()
            again = ctx.run(leaf)
        (shares,) = torch.autograd.grad(again, leaf, ratio(given[0], result))
        return source * shares, None


class Addition(Function):
    """A sum of two activations of one image."""

    @staticmethod
    def forward(ctx: Any, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        ctx.save_for_backward(one, other)
        return one + other

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both shares, their sums in the ratio of the absolute values of what they were."""
        one, other = ctx.saved_tensors
        scale = ratio(given[0], one + other)
        shares = (one * scale, other * scale)
        sums = [share.sum() for share in shares]
        both = sums[0].abs() + sums[1].abs()
        first, second = (
            share * ratio(ratio(total.abs(), both) * given[0].sum(), total)
            for share, total in zip(shares, sums, strict=True)
        )
        return first, second


class Product(Function):
    """A matrix product of two activations."""

    @staticmethod
    def forward(ctx: Any, one: torch.Tensor, other: torch.Tensor, run: Run) -> torch.Tensor:
        """Return ``run(one, other)``."""
        result = run(one, other)
        ctx.save_for_backward(one, other, result)
        return result

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Return half of the relevance to each factor."""
        one, other, result = ctx.saved_tensors
        shared = ratio(given[0], result) / 2
        first = one * (shared @ other.transpose(-2, -1)).sum_to_size(one.shape)
        second = other * (one.transpose(-2, -1) @ shared).sum_to_size(other.shape)
        return first, second, None


class Attention(Function):
    """Fused attention ``softmax(scale Q K^T + mask) V`` of three activations.

    The same as its parts, `Product`, `Identity` and `Product`, but blocks of rows are computed
    again, so that no weights are stored.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        """Return the output (..., query, channel)."""
        result = functional.scaled_dot_product_attention(query, key, value, mask, scale=scale)
        ctx.scale, ctx.mask = scale, mask
        ctx.save_for_backward(query, key, value, result)
        return result

    @staticmethod
    def backward(ctx: Any, *given: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return 1/4 of the relevance to Q, 1/4 to K and 1/2 to V."""
        query, key, value, result = ctx.saved_tensors
        shared = ratio(given[0], result) / 2
        moved = [torch.zeros_like(tensor) for tensor in (query, key, value)]
        count = query.shape[-2]
        row = key.shape[-2] * query[..., 0, 0].numel() * query.element_size()
        size = max(1, BLOCK_BYTES // row)
        for start in range(0, count, size):
            rows = slice(start, start + size)
            asked, part = query[..., rows, :], shared[..., rows, :]
            products = asked @ key.transpose(-2, -1)
            attn = _weights(products * ctx.scale, ctx.mask, rows)
            moved[2] += value * (attn.transpose(-2, -1) @ part)
            scores = ratio(attn * (part @ value.transpose(-2, -1)), products) / 2
            moved[0][..., rows, :] = asked * (scores @ key)
            moved[1] += key * (scores.transpose(-2, -1) @ asked)
        return *moved, None, None


def _weights(scores: torch.Tensor, mask: torch.Tensor | None, rows: slice) -> torch.Tensor:
    """Return the softmax of masked scores (..., row, key)."""
    if mask is not None:
        one_row = mask.ndim < 2 or mask.shape[-2] == 1
        part = mask if one_row else mask[..., rows, :]
        hides = part.dtype == torch.bool
        scores = scores.masked_fill(~part, float("-inf")) if hides else scores + part
    return scores.softmax(dim=-1).nan_to_num(0.0)
