"""Multi-head attention in one call: its steps run under the rules."""

from __future__ import annotations

from contextlib import nullcontext
from types import FunctionType
from typing import Any

from torch.nn import functional

from visattn.propagation.call import Call, Handlers, is_activation

WHOLE: Any = functional.multi_head_attention_forward


def _open(function: Any) -> Any:
    """Return a copy of a function of torch that does not announce itself to function modes.

    The code is torch's own, so the output is the same bit for bit; only the steps inside can be
    seen. Nothing of torch is changed.
    """
    names = {**function.__globals__, "has_torch_function": lambda _: False}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


OPEN = _open(WHOLE)


def multihead(call: Call) -> Any:
    """Run ``multi_head_attention_forward`` so that each of its steps is seen."""
    given = (call.given(place, name) for place, name in enumerate(("query", "key", "value")))
    if not any(map(is_activation, given)):
        return call.plain()
    order = nullcontext() if call.ledger is None else call.ledger.tokens_first()
    with order if call.given(0, "query").ndim == 3 else nullcontext():
        return call.inside(OPEN, *call.args, **call.kwargs)


HANDLERS: Handlers = {WHOLE: multihead}
