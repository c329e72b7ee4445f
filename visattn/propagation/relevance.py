"""Relevance: a pass whose backward pass hands on relevance instead of gradients (Chefer 2021)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from visattn.errors import UnsupportedMethodError
from visattn.models.state import undisturbed
from visattn.propagation.call import Call, is_activation
from visattn.propagation.multihead import OPEN, WHOLE
from visattn.propagation.relevance_handlers import HANDLERS, LINEAR
from visattn.propagation.relevance_rules import Unknown
from visattn.propagation.rules import PLAIN

ACCESSORS = frozenset({"__get__", "__set__", "__delete__"})


@contextmanager
def relevance(module: nn.Module, watching: AbstractContextManager[Any]) -> Iterator[None]:
    """Let what runs inside, in this thread, be differentiated by relevance.

    Every torch function that meets an activation computes what it always does; backward it maps the
    relevance of its result to the relevance of its operands (see `relevance_rules`). Parameters and
    constants are taken in the precision of the activation that they meet, so a float64 input makes
    a float64 pass, and conversions of activations to another precision are left out. ``watching``
    is a mode that sees the functions in that form.

    Parameters require no gradient meanwhile and the module is in eval mode; everything is restored
    on every exit. Sums run over whole tensors: **run one image at a time**. Raises
    `UnsupportedMethodError` while relevance is propagated through a function without a rule.
    """
    with undisturbed(module):
        for weight in module.parameters():
            weight.requires_grad_(False)
        with Relevance(module), watching, Lifted():
            yield


class Relevance(TorchFunctionMode):
    """Runs each torch function that meets an activation under its rule."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._names = {id(part): name for name, part in module.named_modules()}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        given = (args, dict(kwargs or {}))
        active = _active(func, given)
        if not active:
            return func(*args, **given[1])
        call = Call(PLAIN, func, given[0], given[1], None, self._inside)
        handler = HANDLERS.get(func)
        result = NotImplemented if handler is None else handler(call)
        return self._unknown(call, len(active)) if result is NotImplemented else result

    def _inside(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self:
            return function(*args, **kwargs)

    def _unknown(self, call: Call, operands: int) -> Any:
        """Run a function without a rule, so that relevance that comes to it is refused by name."""
        name, place = call.func.__name__, _caller(self._names) or "the model itself"
        several = f" of {operands} activations" if operands > 1 else ""
        reason = f"no rule of relevance exists for {name}{several} in {place}"
        if call.in_place or name == "__setitem__":
            raise UnsupportedMethodError(f"{reason}, which changes its operand in place")
        return pytree.tree_map(lambda result: Unknown.through(result, reason), call.plain())


class Lifted(TorchFunctionMode):
    """Shows functions to the modes below in the precision of the activations that they meet.

    Weights of linear layers and convolutions stay as they are, and are lifted when they are used.
    ``multi_head_attention_forward`` is opened, so that its steps are seen.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if func is WHOLE:
            with self:
                return OPEN(*args, **(kwargs or {}))
        given = (args, dict(kwargs or {}))
        active = () if func in LINEAR else _active(func, given)
        args, named = _lifted(given, active[0].dtype) if active else given
        return func(*args, **named)


def unknown_between(outputs: torch.Tensor, tensors: Sequence[torch.Tensor]) -> str | None:
    """Return the reason of a function without a rule, on the way from outputs back to tensors."""
    goals = {tensor.grad_fn for tensor in tensors}
    leads: dict[Any, bool] = {None: False}
    waiting: list[Any] = [outputs.grad_fn]
    while waiting:
        node = waiting[-1]
        parents = [parent for parent, _ in node.next_functions] if node is not None else []
        fresh = [parent for parent in parents if parent not in leads]
        if fresh:
            waiting.extend(fresh)
            continue
        waiting.pop()
        leads[node] = node in goals or any(leads[parent] for parent in parents)
    ways = (node for node, leading in leads.items() if leading and node not in goals)
    return next((node.reason for node in ways if node.name() == "UnknownBackward"), None)


def _active(func: Callable[..., Any], given: Any) -> list[torch.Tensor]:
    """Return the activations that a function is given; none where no graph is made."""
    if getattr(func, "__name__", "") in ACCESSORS or not torch.is_grad_enabled():
        return []
    return [leaf for leaf in pytree.tree_leaves(given) if is_activation(leaf)]


def _lifted(given: Any, dtype: torch.dtype) -> Any:
    """Return arguments with constants in the precision of the activations."""

    def lift(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
            return leaf
        return leaf if is_activation(leaf) or leaf.dtype == dtype else leaf.to(dtype)

    return pytree.tree_map(lift, given)


def _caller(names: Mapping[int, str]) -> str:
    """Return the name of the innermost module on the call stack."""
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if owner is not None and id(owner) in names:
            return names[id(owner)]
        frame = frame.f_back
    return ""
