"""Bias: a mask or position bias, written down once for what repeats in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from visattn.explorer.packing import Array, Arrays, cast


@dataclass(frozen=True, eq=False)
class Bias:
    """A bias that broadcasts to (window, head, query, key), without what repeats.

    Windows with the same bias share it. A relative position bias has few different columns over
    kinds of windows and heads: then ``places`` says which of ``values`` stands where, often the
    same in every layer.

    Attributes:
        kinds: (kind, head, query, key), the different biases of windows.
        windows: (window,), which of the kinds each window has.
        values: (place, kind * head), the different columns, or None where that would be longer.
        places: (query * key,), which of the columns stands where, or None.
    """

    kinds: Array
    windows: Array
    values: Array | None = None
    places: Array | None = None

    @classmethod
    def of(cls, bias: Array, kind: str) -> Bias:
        """Return a bias of up to four axes in a type of numbers, ``float16`` or ``float32``."""
        four = cast(bias.reshape((1,) * (4 - bias.ndim) + bias.shape), kind)
        kinds, windows = _distinct(four)
        values, places = _distinct(kinds.reshape(-1, kinds.shape[2] * kinds.shape[3]).T)
        if values.nbytes + 2 * places.size < kinds.nbytes:
            return cls(kinds, windows, values, places)
        return cls(kinds, windows)

    @property
    def dense_bytes(self) -> int:
        """Size of what grows with N x N and head, 0 where columns repeat."""
        return self.kinds.nbytes if self.values is None else 0

    @property
    def whole(self) -> Array:
        """The bias (window, head, query, key) as a reader of the page has it."""
        read: Array = self.kinds[self.windows]
        return read

    def embedded(self, arrays: Arrays) -> dict[str, Any]:
        """Put the numbers into the page and return how they are found."""
        written: dict[str, Any] = {"shape": list(self.kinds.shape)}
        if len(self.windows) > 1:
            written["windows"] = arrays.indices(self.windows)
        if self.values is None or self.places is None:
            return {**written, "dense": arrays.add(self.kinds)}
        values, places = arrays.add(self.values), arrays.indices(self.places)
        return {**written, "values": values, "places": places}


def _distinct(values: Array) -> tuple[Array, Array]:
    """Return the different entries of the first axis in order of appearance, and which is where."""
    flat = np.ascontiguousarray(values.reshape(len(values), -1))
    rows = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    _, first, which = np.unique(rows, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return values[first[order]], rank[which.ravel()]
