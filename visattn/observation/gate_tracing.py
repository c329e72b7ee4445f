"""What is known of the tensors inside a gate module, and what torch functions do to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional

from visattn.observation.arithmetic import flat
from visattn.observation.call import Call, is_tensor


@dataclass(frozen=True)
class Trace:
    """A tensor that depends on the input of a gate module.

    Attributes:
        is_input: whether it is that input, perhaps laid out or viewed in another way.
        squashed: whether it is the result of a gate's nonlinearity, perhaps resized or scaled.
        softmax: the softmax over positions that it is a view of, or None.
    """

    is_input: bool = False
    squashed: bool = False
    softmax: torch.Tensor | None = None


_HOMES: tuple[Any, ...] = (torch, torch.Tensor, functional)


def named(names: str) -> frozenset[Callable[..., Any]]:
    """Return the functions and methods of torch with these names."""
    return frozenset(getattr(h, n) for n in names.split() for h in _HOMES if hasattr(h, n))


MULTIPLY = named("mul mul_ multiply multiply_ __mul__ __rmul__ __imul__")
IN_PLACE = named("mul_ multiply_ __imul__")
MATRIX = named("matmul __matmul__ bmm")
PRODUCT = MULTIPLY | MATRIX | named("__rmatmul__ einsum")
SOFTMAX = named("softmax") | {torch.special.softmax}
_SQUASH = SOFTMAX | named(
    "sigmoid sigmoid_ hardsigmoid hardsigmoid_ relu6 hardtanh hardtanh_ tanh tanh_ clamp clamp_ "
    "clamp_min clamp_max"
)
_SAME = named("contiguous clone to float double half bfloat16 type type_as dropout")
_VIEW = _SAME | named(
    "view reshape flatten unflatten view_as reshape_as unsqueeze squeeze permute transpose movedim "
    "expand expand_as __getitem__ select narrow chunk split unbind"
)
_SCALE = (
    _VIEW
    | MULTIPLY
    | named(
        "add add_ __add__ __radd__ __iadd__ sub sub_ __sub__ __rsub__ rsub div div_ __truediv__ "
        "interpolate upsample cat concat repeat repeat_interleave neg __neg__ sqrt pow __pow__ "
        "square"
    )
)


def follow(traces: Any, call: Call) -> None:
    """Note in ``traces``, a dictionary by tensor, what a call did to the tensors known in it."""
    known = [traces[part] for part in flat(call.args) if is_tensor(part) and part in traces]
    known += [traces[part] for part in call.kwargs.values() if is_tensor(part) and part in traces]
    if not known:
        return
    first: Trace = known[0]
    found = Trace(
        is_input=first.is_input and call.func in _SAME,
        squashed=call.func in _SQUASH
        or (call.func in _SCALE and any(each.squashed for each in known)),
        softmax=first.softmax if call.func in _VIEW else None,
    )
    for result in flat((call.result,)):
        if is_tensor(result):
            traces[result] = found


def with_softmax(trace: Trace, value: torch.Tensor) -> Trace:
    """Return the trace of a softmax over positions, whose ``value`` is (batch, row, col)."""
    return replace(trace, softmax=value)
