"""The mode that watches one thread's torch functions and changes their backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from visattn.propagation.rules import PLAIN, Rules

Handler = Callable[[Rules, Callable[..., Any], tuple[Any, ...], Mapping[str, Any]], Any]


@contextmanager
def propagating(rules: Rules, module: nn.Module) -> Iterator[None]:
    """Change the backward pass of what runs inside, in this thread, according to ``rules``.

    Parameters of ``module`` require no gradient meanwhile, so that what does is an activation;
    their flags are restored on every exit.
    """
    if rules == PLAIN:
        yield
        return
    flags = [(weight, weight.requires_grad) for weight in module.parameters()]
    try:
        for weight, _ in flags:
            weight.requires_grad_(False)
        with ModifiedBackward(rules):
            yield
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)


class ModifiedBackward(TorchFunctionMode):
    """Runs each torch function through the handler of its kind."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        handler = HANDLERS.get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(self._rules, func, args, kwargs or {})


HANDLERS: dict[Callable[..., Any], Handler] = {}
