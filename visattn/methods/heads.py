"""Fusing the heads of an attention operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from visattn.errors import UnsupportedMethodError


def fuse(attn: torch.Tensor, heads: Any) -> torch.Tensor:
    """Return (batch, row, key) from (batch, head, row, key).

    ``heads``: ``mean``, ``max`` or ``min`` over all heads, one index, or a list of indices whose
    mean is taken. Raises `UnsupportedMethodError` for anything else and for heads that are not
    there.
    """
    if isinstance(heads, str) and heads in ("mean", "max", "min"):
        if heads == "mean":
            return attn.mean(dim=1)
        return attn.amax(dim=1) if heads == "max" else attn.amin(dim=1)
    count = attn.shape[1]
    chosen = [heads] if isinstance(heads, (int, np.integer)) else heads
    valid = isinstance(chosen, Sequence) and not isinstance(chosen, str) and len(chosen) > 0
    if not valid or not all(_is_head(h, count) for h in chosen):
        raise UnsupportedMethodError(
            f"heads={heads!r}: use 'mean', 'max', 'min', an index or a list of indices; this "
            f"operation has {count} heads."
        )
    return attn[:, list(chosen)].mean(dim=1)


def _is_head(head: Any, count: int) -> bool:
    integer = isinstance(head, (int, np.integer)) and type(head) is not bool
    return integer and bool(-count <= head < count)
