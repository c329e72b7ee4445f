"""What is asked of a model several times in one call, remembered for the length of that call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal

if TYPE_CHECKING:
    from visattn.adapters.adapter import Adapter

T = TypeVar("T")
_known: ContextVar[dict[Hashable, Any] | None] = ContextVar("known", default=None)


@contextmanager
def remembered_chains() -> Iterator[None]:
    """Build each chain once inside the block; nothing is kept longer, so a model may change."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def remembered(key: Hashable, compute: Callable[[], T]) -> T:
    """Return what ``compute`` returns, computed once for each key inside `remembered_chains`."""
    known = _known.get()
    if known is None:
        return compute()
    if key not in known:
        known[key] = compute()
    found: T = known[key]
    return found


def chain_of(adapter: Adapter, size: Size) -> Chain | Refusal:
    """Return ``adapter.chain(size)``, remembered inside `remembered_chains`."""
    return remembered((id(adapter), size), lambda: adapter.chain(size))
