"""Running a plain transformer on some of its tokens only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from visattn.adapters import Adapter, Refusal
from visattn.errors import CaptureError, UnsupportedMethodError
from visattn.models.state import undisturbed


def refusal_to_drop(adapter: Adapter) -> str | None:
    """Return why tokens of a family cannot be left out, or None where they can."""
    stream = adapter.stream()
    if isinstance(stream, Refusal):
        return stream.reason
    if not stream.drops:
        return (
            f"positions of the {adapter.family} family are not part of its tokens, so that none "
            "can be left out; use drop=False"
        )
    return None


@contextmanager
def dropping(adapter: Adapter, tokens: torch.Tensor) -> Iterator[None]:
    """Let the first block, and all behind it, see only ``tokens`` (batch, kept) of their stream.

    Places count prefix tokens and are in the order in which tokens are to stand; every pass inside
    has that batch. The hook is gone on every exit. Raises `UnsupportedMethodError` where tokens
    cannot be left out, `CaptureError` when no pass inside reached the first block.
    """
    reason = refusal_to_drop(adapter)
    stream = adapter.stream()
    if reason is not None or isinstance(stream, Refusal):
        raise UnsupportedMethodError(f"Tokens cannot be dropped: {reason}.")
    site = stream.blocks[0].before
    reached = []

    def keep(_: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        reached.append(True)
        stream, *others = arguments
        places = tokens.to(stream.device)[..., None].expand(-1, -1, stream.shape[-1])
        return (stream.gather(1, places), *others)

    with undisturbed(adapter.module):
        handle = adapter.module.get_submodule(site.module).register_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()
    if not reached:
        raise CaptureError(f"No pass reached the {site}, so no token was dropped.")
