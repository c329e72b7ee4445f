"""What heads read: a token, an average, or an attention pool."""

from __future__ import annotations

import torch

from visattn.tokens import Placement, Readout, Refusal, Reindex, Step, TokenLayout


def pooled_readout(layout: TokenLayout, pool: str, with_prefix: bool = False) -> Readout | Refusal:
    """Return the read-out of timm's ``token`` and ``avg`` pooling, or why there is none.

    ``fast...`` pools of timm compute the same in another way.
    """
    pool = pool.removeprefix("fast")
    cls = "'cls', " if "class" in layout.prefix else ""
    if pool == "token":
        return Readout("class token", layout.one(0))
    if pool == "avg" and with_prefix:
        return Readout("mean of all tokens", layout.uniform(prefix=True))
    if pool == "avg":
        return Readout("mean of patch tokens", layout.uniform())
    if pool in ("max", "avgmax", "catavgmax"):
        return Refusal(
            f"the head takes a maximum over tokens (global_pool={pool!r}), so no fixed row of "
            f"tokens is what it reads; choose a query: {cls}'mean' or (row, col)"
        )
    return Refusal(
        f"the head does not pool its tokens (global_pool={pool!r}); choose a query: {cls}"
        "'mean' or (row, col)"
    )


def pooling_step(operation: str, layout: TokenLayout, queries: int, first: int) -> Step:
    """Return attention pooling from ``queries`` latents to the tokens from ``first`` on."""
    keys = Reindex.gather(torch.arange(first, layout.tokens), layout.tokens)
    return Step(layout, (Placement(operation, Reindex.identity(queries), keys),))
