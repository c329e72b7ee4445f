"""Packing: arrays of numbers as text that a browser reads without a library."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from visattn.errors import CaptureError

Array = npt.NDArray[Any]
Reference = dict[str, Any]
TYPES = ("float16", "float32", "uint8", "uint16", "int32")


@dataclass(eq=False)
class Arrays:
    """Arrays that stand in the page once each, however often they are meant.

    Each is the base64 text of a zlib stream of byte planes: first the first byte of every number
    in little-endian order, then the second, ... Exponents are alike and shrink; mantissas are not.

    Attributes:
        texts: the text of each array, in the order of their numbers.
    """

    texts: list[str] = field(default_factory=list)
    _known: dict[str, Reference] = field(default_factory=dict)

    def add(self, values: Array) -> Reference:
        """Return how the page finds an array: its number, type and shape.

        Raises `CaptureError` for a type that is not one of `TYPES`.
        """
        name = values.dtype.name
        if name not in TYPES:
            raise CaptureError(f"Arrays of {name} cannot be embedded; {', '.join(TYPES)} can.")
        little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        key = f"{name} {values.shape} {hashlib.sha256(little.tobytes()).hexdigest()}"
        if key not in self._known:
            shape = [int(side) for side in values.shape]
            self._known[key] = {"array": len(self.texts), "type": name, "shape": shape}
            self.texts.append(packed(little))
        return self._known[key]

    def indices(self, values: Array) -> Reference:
        """Add whole numbers of at least 0 in the narrowest type that holds them."""
        largest = int(values.max(initial=0))
        kind = next((t for t in ("uint8", "uint16") if largest <= np.iinfo(t).max), "int32")
        return self.add(values.astype(kind))


def packed(values: Array) -> str:
    """Return the text of one array."""
    planes = values.reshape(-1, 1).view(np.uint8).reshape(values.size, values.itemsize).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode("ascii")


def cast(values: Array, kind: str) -> Array:
    """Return values as ``float16`` or ``float32``; what is finite stays finite.

    Masks are often the lowest number of a wider type, which float16 would turn into infinity.
    """
    limit = np.finfo(kind).max
    finite = np.isfinite(values)
    clipped = np.where(finite, np.clip(np.where(finite, values, 0), -limit, limit), values)
    return clipped.astype(kind)
