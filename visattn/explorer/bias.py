"""Bias: a mask or position bias, written down once for what repeats in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from visattn.explorer.packing import Array, Arrays, narrowed


def embedded_bias(bias: Array, arrays: Arrays) -> tuple[dict[str, Any], Array]:
    """Embed a bias that broadcasts to (window, head, query, key) and return it with what is read.

    Windows with the same bias share it (``windows``: which of the ``kinds`` each has). A relative
    position bias has few different columns over kinds and heads: then ``places`` (query, key) says
    which of the ``values`` (place, kind, head) stands where; ``places`` is often the same in every
    layer and embedded once. Otherwise ``dense`` holds all values (kind, head, query, key). All are
    float16.
    """
    four = narrowed(bias.reshape((1,) * (4 - bias.ndim) + bias.shape))
    kinds, windows = _distinct(four)
    written: dict[str, Any] = {"shape": list(kinds.shape)}
    if len(windows) > 1:
        written["windows"] = arrays.indices(windows)
    columns = kinds.reshape(-1, kinds.shape[2] * kinds.shape[3]).T
    values, places = _distinct(columns)
    if values.size * 2 + places.size * 2 < kinds.size * 2:
        written["values"] = arrays.add(values)
        written["places"] = arrays.indices(places)
    else:
        written["dense"] = arrays.add(kinds)
    return written, kinds[windows]


def bias_bytes(written: dict[str, Any]) -> int:
    """Return the size of a bias that was written down densely, 0 for one that was not."""
    dense = written.get("dense")
    return 0 if dense is None else 2 * int(np.prod(dense["shape"]))


def _distinct(values: Array) -> tuple[Array, Array]:
    """Return the different entries of the first axis in order of appearance, and which is where."""
    flat = np.ascontiguousarray(values.reshape(len(values), -1))
    rows = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    _, first, which = np.unique(rows, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return values[first[order]], rank[which.ravel()]
