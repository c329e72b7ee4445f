"""What the methods over gates share: which gates are meant, and what a reader must know of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from visattn.adapters import Refusal
from visattn.errors import CaptureError, UnsupportedMethodError
from visattn.gates import Kind
from visattn.observation import AttentionRecord, Gate, Keep
from visattn.observation.gate import IDLE

CONSTANT = 0.01


def gates_of(record: AttentionRecord, kinds: Sequence[Kind]) -> list[Gate]:
    """Return the gates of some kinds that ran over a feature map, in execution order.

    Raises `CaptureError` where there is none, naming the modules whose gate was not seen.
    """
    found = [gate for gate in record.gates if gate.kind in kinds and gate.positions > 1]
    if found:
        return found
    missed = "; ".join(str(each) for each in record.missed) or "no gate module ran"
    raise CaptureError(f"No {' or '.join(kinds)} gate was observed: {missed}.")


def kept(record: AttentionRecord, keep: Keep) -> Gate:
    """Return the gate that was kept; raises `UnsupportedMethodError` where it is not there."""
    gates = gates_of(record, keep.kinds)
    gate = keep.chosen(gates)
    if gate is None:
        raise UnsupportedMethodError(
            f"layer={keep.layer!r}: name one of {', '.join(gate.name for gate in gates)}, or an "
            f"int; this model has {len(gates)} such gates."
        )
    if gate.outputs is None:
        raise UnsupportedMethodError(
            f"The feature map of {gate.name} was not kept; capture with keep=[{keep}]."
        )
    return gate


def warned(record: AttentionRecord) -> list[str]:
    """Return what a reader must know: modules whose gate is not in the map."""
    ran = [each for each in record.missed if each.reason != IDLE]
    if not ran:
        return []
    more = f" and {len(ran) - 1} more" if len(ran) > 1 else ""
    return [f"the gate of {ran[0]}{more}; the map is without it"]


def cell_of(record: AttentionRecord, grid: Sequence[int]) -> tuple[float, float] | None:
    """Return the cells of the family's last grid where a map has it, else equal parts (None)."""
    layout = record.adapter.layout(record.size)
    same = not isinstance(layout, Refusal) and tuple(layout.grid) == tuple(grid)
    return layout.cell if same and not isinstance(layout, Refusal) else None


def variation(maps: torch.Tensor) -> torch.Tensor:
    """Return, for maps (batch, row, col), standard deviation over mean: (batch,).

    The divisor is the mean magnitude, so that gates around zero are not called constant or varied
    by an accident of their mean.
    """
    flat = maps.flatten(1)
    deviation = flat.std(dim=1, correction=0)
    return deviation / flat.abs().mean(dim=1).clamp(min=torch.finfo(flat.dtype).tiny)


def require_layer(layer: object) -> None:
    """Raise `UnsupportedMethodError` unless ``layer`` is None, a name or a number."""
    known = layer is None or isinstance(layer, (str, int))
    if not known or isinstance(layer, bool):
        raise UnsupportedMethodError(
            f"layer={layer!r}: the dotted name of a gate module, a number in execution order "
            "(negative from the end), or None for the last."
        )
