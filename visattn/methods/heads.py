"""Fusing the heads of an attention operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    chosen = [heads] if isinstance(heads, int) else heads
    count = attn.shape[1]
    valid = isinstance(chosen, Sequence) and not isinstance(chosen, str) and len(chosen) > 0
    if not valid or not all(isinstance(h, int) and -count <= h < count for h in chosen):
        raise UnsupportedMethodError(
            f"heads={heads!r}: use 'mean', 'max', 'min', an index or a list of indices; this "
            f"operation has {count} heads."
        )
    return attn[:, list(chosen)].mean(dim=1)
