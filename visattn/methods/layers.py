"""Choosing layers by index, slice or list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visattn.errors import UnsupportedMethodError


def choose(count: int, layers: Any, start: Any = 0) -> list[int]:
    """Return the chosen layer indices (0 = first), in order of depth.

    ``layers``: None for all, an int, a slice or a list of ints; negative ones count from the end.
    Layers before ``start`` are left out. A model whose only attention is the pooling of its head
    has no layers.
    Raises `UnsupportedMethodError` for layers that are not there.
    """
    if not isinstance(start, int) or not 0 <= start < max(count, 1):
        raise UnsupportedMethodError(
            f"start_layer={start!r}: an int from 0 to {count - 1}; this model has {count} layers."
        )
    everything = list(range(count))
    if layers is None:
        return everything[start:]
    if isinstance(layers, slice):
        chosen = everything[layers]
    else:
        wanted = [layers] if isinstance(layers, int) else layers
        valid = isinstance(wanted, Sequence) and all(isinstance(i, int) for i in wanted)
        if not valid or not all(-count <= i < count for i in wanted):
            raise UnsupportedMethodError(
                f"layers={layers!r}: use None, an int, a slice or a list of ints; this model has "
                f"{count} layers."
            )
        chosen = sorted({i % count for i in wanted})
    chosen = [layer for layer in chosen if layer >= start]
    if count and not chosen:
        raise UnsupportedMethodError(f"layers={layers!r} chooses none of {count} layers.")
    return chosen
