"""Chains remembered for the length of one call: building one is pure arithmetic, but not free."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal

if TYPE_CHECKING:
    from visattn.adapters.adapter import Adapter

_known: ContextVar[dict[tuple[int, Size], Chain | Refusal] | None] = ContextVar(
    "known", default=None
)


@contextmanager
def remembered_chains() -> Iterator[None]:
    """Build each chain once inside the block; nothing is kept longer, so a model may change."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def chain_of(adapter: Adapter, size: Size) -> Chain | Refusal:
    """Return ``adapter.chain(size)``, remembered inside `remembered_chains`."""
    known = _known.get()
    if known is None:
        return adapter.chain(size)
    key = (id(adapter), size)
    if key not in known:
        known[key] = adapter.chain(size)
    return known[key]
