"""Arrangement: the axes in front of the tokens, as batch, windows and heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from visattn.errors import CaptureError

AXES = "bwh"


@dataclass(frozen=True)
class Arrangement:
    """How the leading axes of an operation are read and where they are brought.

    Attributes:
        leading: sizes (batch, head) as observed; their product, row-major, is read anew.
        sizes: size of each of b (batch), w (windows) and h (heads).
        order: the order of b, w and h in the observed axes.
    """

    leading: tuple[int, int]
    sizes: dict[str, int]
    order: str

    @classmethod
    def read(cls, leading: tuple[int, int], batch: int, windows: int, order: str) -> Arrangement:
        """Read ``leading`` as ``batch`` images of ``windows`` windows; the rest are heads.

        Raises `CaptureError` when the sizes do not divide or ``order`` is no permutation of bwh.
        """
        total, known = leading[0] * leading[1], batch * windows
        if sorted(order) != sorted(AXES) or known < 1 or total % known:
            raise CaptureError(
                f"Leading axes {leading} are not {batch} images x {windows} windows x heads in "
                f"order {order!r}; state the windows and the order (a permutation of b, w and h) "
                "of this operation."
            )
        return cls(leading, {"b": batch, "w": windows, "h": total // known}, order)

    @property
    def new(self) -> tuple[int, int]:
        """Sizes (batch * windows, heads)."""
        return self.sizes["b"] * self.sizes["w"], self.sizes["h"]

    @property
    def changes_nothing(self) -> bool:
        """Whether the axes are already (batch * windows, heads)."""
        real = [axis for axis in self.order if self.sizes[axis] > 1]
        return self.new == self.leading and real == sorted(real, key=AXES.index)

    def bring(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return ``tensor`` (batch, head, ...), or one that broadcasts to it, newly arranged."""
        if tensor.ndim <= 2 or tensor.shape[:-2].numel() == 1:
            return tensor
        tail = tensor.shape[-2:]
        parts = tensor.expand(*self.leading, *tail)
        parts = parts.reshape(*(self.sizes[axis] for axis in self.order), *tail)
        parts = parts.permute(*(self.order.index(axis) for axis in AXES), 3, 4)
        return parts.reshape(*self.new, *tail)


def in_four_axes(tensor: torch.Tensor, leading: torch.Size) -> torch.Tensor:
    """Return ``tensor`` (..., token, channel) with its leading axes broadcast to ``leading``.

    The result has two leading axes (batch, head): one axis becomes a batch of one head, and of
    three or more all but the last are flattened into the batch.
    """
    wide = tensor.expand(*leading, *tensor.shape[-2:])
    if len(leading) < 2:
        return wide[(None,) * (1 - len(leading))].unsqueeze(1)
    return wide.flatten(0, -4) if len(leading) > 2 else wide
