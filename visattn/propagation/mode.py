"""The mode that watches one thread's torch functions and changes their backward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from visattn.models.state import undisturbed
from visattn.propagation import (
    activations,
    additions,
    attention,
    convolution,
    linear,
    multihead,
    norms,
    products,
)
from visattn.propagation.call import Call, Handlers
from visattn.propagation.ledger import Ledger
from visattn.propagation.rules import PLAIN, Rules

HANDLERS: Handlers = {
    **attention.HANDLERS,
    **multihead.HANDLERS,
    **norms.HANDLERS,
    **activations.HANDLERS,
    **products.HANDLERS,
    **additions.HANDLERS,
    **linear.HANDLERS,
    **convolution.HANDLERS,
}


class Innermost(threading.local):
    """The mode whose rules hold in this thread; None for plain backward passes."""

    mode: ModifiedBackward | None = None


INNERMOST = Innermost()


@contextmanager
def propagating(rules: Rules, module: nn.Module) -> Iterator[Ledger | None]:
    """Change the backward pass of what runs inside, in this thread, according to ``rules``.

    Outputs stay what they are, bit for bit. Parameters of ``module`` require no gradient meanwhile,
    so that what does is an activation, and the module is in eval mode; everything is restored on
    every exit, and threads that share a module take turns. Of nested blocks the innermost holds,
    also when it is plain. Yields the account of additive constants where ``rules`` keep one.
    """
    before = INNERMOST.mode
    if rules == PLAIN:
        INNERMOST.mode = None
        try:
            yield None
        finally:
            INNERMOST.mode = before
        return
    ledger = Ledger(module) if rules.constants else None
    mode = ModifiedBackward(rules, ledger)
    with undisturbed(module):
        for weight in module.parameters():
            weight.requires_grad_(False)
        INNERMOST.mode = mode
        try:
            with mode:
                yield ledger
        finally:
            INNERMOST.mode = before


class ModifiedBackward(TorchFunctionMode):
    """Runs each torch function through the handler of its kind."""

    def __init__(self, rules: Rules, ledger: Ledger | None = None) -> None:
        super().__init__()
        self._rules = rules
        self._ledger = ledger
        self._nested = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        handler = HANDLERS.get(func)
        if handler is None or INNERMOST.mode is not self or not torch.is_grad_enabled():
            return func(*args, **(kwargs or {}))
        given = (func, args, kwargs or {})
        return handler(Call(self._rules, *given, self._ledger, self._inside, self._nested))

    def _inside(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function whose steps are to be seen again."""
        before, self._nested = self._nested, True
        try:
            with self:
                return function(*args, **kwargs)
        finally:
            self._nested = before
