"""What is known about a tensor on its way from query and key to the product with the value."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from visattn.observation.axes import swapped
from visattn.observation.operation import wide

Labels = tuple[int, ...]


@dataclass(frozen=True)
class Operands:
    """``scale * query key^T + bias``, leading axes as in the scores.

    Attributes:
        query, key: (..., token, channel).
        scale: factor on the product.
        bias: broadcastable to the scores, or None.
        dtype: in which the scores were computed, which under autocast is not the operands' own.
    """

    query: torch.Tensor
    key: torch.Tensor
    scale: float = 1.0
    bias: torch.Tensor | None = None
    dtype: torch.dtype = torch.float32

    def scaled(self, factor: float | torch.Tensor) -> Operands | None:
        """Return the operands of the scores times a number or one number per row, or None."""
        bias = None if self.bias is None else self.bias * factor
        if not isinstance(factor, torch.Tensor):
            return replace(self, scale=self.scale * factor, bias=bias)
        per_row = factor.ndim == 0 or factor.shape[-1] == 1
        if not per_row or factor.ndim > self.query.ndim:
            return None
        return replace(self, query=wide(self.query.detach()) * factor.detach(), bias=bias)

    def biased(self, bias: torch.Tensor) -> Operands:
        """Return the operands of the scores plus a bias."""
        return replace(self, bias=bias if self.bias is None else self.bias + bias)

    def transposed(self) -> Operands:
        """Return the operands of the transposed scores."""
        bias = self.bias
        if bias is not None:
            bias = bias.unsqueeze(0) if bias.ndim == 1 else bias
            bias = bias.transpose(-2, -1) if bias.ndim else bias
        return replace(self, query=self.key, key=self.query, bias=bias)

    def reshaped(self, old: torch.Size, new: torch.Size) -> Operands | None:
        """Return the operands with leading axes ``new`` instead of ``old``, or None.

        A bias that only broadcasts to the old axes is copied where the new ones need it: masks of
        shifted windows, whose images are folded into one axis with their windows.
        """
        bias = self.bias
        if bias is not None and bias.ndim > 2:
            kept = bias.ndim == 3 or bias.shape[:-3].numel() == 1
            if kept and old[-1:] == new[-1:]:
                bias = bias.reshape(bias.shape[-3:])
            elif bias.shape[:-2] == old or bias.shape[:-2].numel() == old.numel():
                bias = bias.reshape(*new, *bias.shape[-2:])
            elif broadcasts(bias.shape[:-2], old):
                bias = bias.expand(*old, *bias.shape[-2:]).reshape(*new, *bias.shape[-2:])
            else:
                return None
        query, key = (
            part.expand(*old, *part.shape[-2:]).reshape(*new, *part.shape[-2:])
            for part in (self.query, self.key)
        )
        return replace(self, query=query, key=key, bias=bias)


def broadcasts(shape: torch.Size, leading: torch.Size) -> bool:
    """Return whether leading axes fit ``leading``, axis by axis from the last."""
    pairs = zip(reversed(shape), reversed(leading), strict=False)
    return len(shape) <= len(leading) and all(size in (1, whole) for size, whole in pairs)


@dataclass(frozen=True)
class Scores:
    """A matrix product on its way to a softmax.

    Attributes:
        operands: what it was computed from, or None after a step that they cannot express.
        labels: for each axis the axis of the matrix product it was, or None after a reshape.
        origin: name of the attention operation whose output it is, where weights that were not
            computed from query and key were multiplied with a value.
    """

    operands: Operands | None
    labels: Labels | None
    origin: str | None = None


@dataclass(frozen=True)
class Weights:
    """The result of a softmax on its way to the product with the value.

    Attributes:
        ticket: number of the softmax in the pass.
        scored: whether the softmax was taken of a matrix product.
        axis: the axis along which the softmax was taken, or None while it is merged with others.
        size, inner: size of that axis and distance of neighbours along it, row-major.
        source: the softmax's own result where this tensor is another; None where it is this one.
        operands: what the softmax's argument was computed from, or None.
        labels: for each axis the axis of ``source`` it was, or None after a reshape or slice.
        altered: whether the numbers are no longer those of the softmax.
        mixing, mixing_bias: talking heads applied since the softmax, or None.
        factors: the two tensors of which this is the elementwise product, the weights first.
    """

    ticket: int
    scored: bool
    axis: int | None
    size: int
    inner: int
    source: torch.Tensor | None = None
    operands: Operands | None = None
    labels: Labels | None = None
    altered: bool = False
    mixing: torch.Tensor | None = None
    mixing_bias: torch.Tensor | None = None
    factors: tuple[torch.Tensor, Weights, torch.Tensor] | None = None

    def changed(self) -> Weights:
        """Return what is known once the numbers were changed."""
        return replace(
            self, altered=True, source=None, operands=None, labels=None, mixing=None, factors=None
        )

    def operands_as(self, labels: Labels) -> Operands | None:
        """Return the operands of the source permuted by ``labels``, or None."""
        if self.operands is None:
            return None
        if labels == tuple(range(len(labels))):
            return self.operands
        return self.operands.transposed() if labels == swapped(len(labels)) else None
