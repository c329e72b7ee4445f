"""Call: one call of a torch function that is about to run under changed rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from visattn.propagation.rules import Rules

if TYPE_CHECKING:
    from visattn.propagation.ledger import Ledger

Handler = Callable[["Call"], Any]
Handlers = dict[Callable[..., Any], Handler]
HOMES: tuple[Any, ...] = (torch, torch.Tensor, functional, torch.special)


@dataclass(frozen=True, eq=False)
class Call:
    """A torch function with what it is given, the rules in force, and the account of constants.

    Attributes:
        rules: what the backward pass is to do.
        func: the function.
        args, kwargs: what it is given.
        ledger: where additive constants are noted, or None.
        inside: runs a function under the same rules, for functions made of others.
        nested: whether the call comes from such a function, which may fold tokens into the batch.
    """

    rules: Rules
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    ledger: Ledger | None
    inside: Callable[..., Any]
    nested: bool = False

    def given(self, place: int, *names: str, default: Any = None) -> Any:
        """Return the argument at ``place``, or by any of its names."""
        if len(self.args) > place:
            return self.args[place]
        return next((self.kwargs[name] for name in names if name in self.kwargs), default)

    def run(self, changed: Mapping[int, tuple[str, Any]] | None = None) -> Any:
        """Run the function, with arguments replaced: place -> (name, value)."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for place, (name, value) in (changed or {}).items():
            if place < len(args):
                args[place] = value
            elif name in kwargs or value is not None:
                kwargs[name] = value
        return self.func(*args, **kwargs)

    def plain(self) -> Any:
        """Run the function as it is."""
        return self.func(*self.args, **self.kwargs)

    @property
    def in_place(self) -> bool:
        """Whether the function changes its first argument."""
        name = getattr(self.func, "__name__", "")
        return name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))

    def noted(self, result: torch.Tensor, constant: Any) -> torch.Tensor:
        """Return ``result``; where an account is kept, ``constant`` was added to make it."""
        if self.ledger is None or constant is None or not is_activation(result):
            return result
        result = owned(result)
        self.ledger.note(result, constant)
        return result


def is_activation(value: Any) -> bool:
    """Return whether a value depends on the input; parameters require no gradient meanwhile."""
    return isinstance(value, torch.Tensor) and value.requires_grad


def named(names: str) -> list[Callable[..., Any]]:
    """Return the functions and methods of torch with these names."""
    return [getattr(home, name) for name in names.split() for home in HOMES if hasattr(home, name)]


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in at least float32."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def owned(result: torch.Tensor) -> torch.Tensor:
    """Return a result that is no view of another tensor.

    What a model changes in place must be none where it was made inside a custom function, and a
    view that is changed in place loses its place in the graph.
    """
    return result.clone() if result._is_view() else result  # noqa: SLF001  no public form


def settled(target: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """Return ``target`` holding ``result``, as an in-place function would leave it."""
    return target.copy_(result)
