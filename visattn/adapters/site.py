"""Site: a place in a module tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Site:
    """A place in a module tree where an activation can be read.

    Attributes:
        module: dotted name.
        side: whether the module's first input or its output is meant.
        axes: ``tokens`` for (batch, token, channel), ``channels_first`` for (batch, channel, row,
            col), ``channels_last`` for (batch, row, col, channel).
        norm: whether only the Euclidean norms over channels are kept, without gradient; they cost
            no memory worth mentioning.
    """

    module: str
    side: Literal["input", "output"]
    axes: Literal["tokens", "channels_first", "channels_last"]
    norm: bool = False

    def __str__(self) -> str:
        return f"{self.side} of {self.module}"
