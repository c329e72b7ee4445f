"""Where a feature map meets its gate: which factor is which, and what kind of gate it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from visattn.gates import Kind
from visattn.images import Size
from visattn.observation.operation import wide


class Factors(NamedTuple):
    """The feature map and the gate of one multiplication, as the model holds them."""

    map: torch.Tensor
    gate: torch.Tensor
    shape: torch.Size


def factors(left: Any, right: Any, traces: Any) -> Factors | None:
    """Return which of two operands is the feature map, or None where no gate is recognised.

    Both must depend on the module's input. The module's input is the map; else what is broadcast
    over channels or positions is the gate; else what comes from a sigmoid or another such function.
    """
    if not (isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)):
        return None
    if left not in traces or right not in traces:
        return None
    try:
        shape = torch.Size(torch.broadcast_shapes(left.shape, right.shape))  # type: ignore[no-untyped-call]
    except RuntimeError:  # the call itself will say so
        return None
    if len(shape) not in (4, 5):
        return None
    one, other = traces[left], traces[right]
    if one.is_input != other.is_input:
        swap = other.is_input
    elif _broadcast(left, shape) != _broadcast(right, shape):
        swap = _broadcast(left, shape)
    elif one.squashed != other.squashed:
        swap = one.squashed
    else:
        return None
    return Factors(right, left, shape) if swap else Factors(left, right, shape)


def _broadcast(tensor: torch.Tensor, shape: torch.Size) -> bool:
    whole = tensor.expand(shape)
    return any(size > 1 and stride == 0 for size, stride in zip(shape, whole.stride(), strict=True))


class Reading(NamedTuple):
    """A gate laid out as (batch, channel, row, col), branches before channels, without copying."""

    kind: Kind
    gate: torch.Tensor

    def copied(self) -> torch.Tensor:
        """Return the gate with the axes of its kind, in float32 or wider, in memory of its own.

        To be called before the multiplication, which may overwrite the gate.
        """
        gate = self.gate.detach()
        if self.kind in ("channel", "branch"):
            return wide(gate[..., 0, 0].clone())
        return wide((gate[:, 0] if self.kind == "spatial" else gate).clone())


def read(
    found: Factors, layout: str, expected: Sequence[Kind], seen: Sequence[Kind]
) -> Reading | None:
    """Return the gate of two factors as the first kind that it fits, of those not yet seen."""
    gate = channels_first(found.gate.expand(found.shape), layout)
    for kind in expected:
        again = kind != "pointwise" and kind in seen
        if not again and _fits(gate, kind):
            return Reading(kind, gate)
    return None


def _fits(gate: torch.Tensor, kind: Kind) -> bool:
    """Return whether a gate varies along the axes of a kind, and along no others.

    Axes of size one cannot tell.
    """
    sizes, strides = gate.shape, gate.stride()
    varies = [size == 1 or stride != 0 for size, stride in zip(sizes, strides, strict=True)]
    fixed = [size == 1 or stride == 0 for size, stride in zip(sizes, strides, strict=True)]
    branches = gate.ndim == 5
    if kind == "branch":
        return branches and varies[1] and all(fixed[3:])
    if kind == "channel":
        return not branches and varies[1] and all(fixed[2:])
    if kind == "spatial":
        return not branches and fixed[1] and (varies[2] or varies[3])
    return kind == "pointwise" and not branches


def channels_first(tensor: torch.Tensor, layout: str) -> torch.Tensor:
    """Return a map with its channels before rows and columns."""
    if layout == "channels_first" or tensor.ndim != 4:
        return tensor
    return tensor.permute(0, 3, 1, 2)


def energy(feature_map: torch.Tensor) -> torch.Tensor:
    """Return ``mean_hw |x|``, without rows and columns."""
    x = feature_map.detach()
    dtype = torch.promote_types(x.dtype, torch.float32)
    total: torch.Tensor = torch.linalg.vector_norm(x, 1, dim=(-2, -1), dtype=dtype)
    return total / (x.shape[-2] * x.shape[-1])


def merged(feature_map: torch.Tensor) -> torch.Tensor:
    """Return (batch, channel, row, col), branches side by side on the channel axis."""
    return feature_map.flatten(1, -3)


def grid_of(tensor: torch.Tensor) -> Size:
    """Return rows and columns of (..., row, col)."""
    return Size(*map(int, tensor.shape[-2:]))


def over_positions(result: torch.Tensor, axis: int, grid: Size) -> torch.Tensor | None:
    """Return a softmax over all positions as (batch, row, col), mean over other axes, or None."""
    if result.shape[axis] != grid.height * grid.width:
        return None
    moved = wide(result.detach()).movedim(axis, -1)
    return moved.reshape(len(moved), -1, moved.shape[-1]).mean(dim=1).reshape(-1, *grid)
