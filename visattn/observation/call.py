"""Call: one call of a torch function, after it ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch


class Call(NamedTuple):
    """A torch function with what it was given and what it returned."""

    func: Callable[..., Any]
    result: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def given(self, place: int, *names: str, default: Any = None) -> Any:
        """Return the argument at ``place``, or by any of its names."""
        if len(self.args) > place:
            return self.args[place]
        return next((self.kwargs[name] for name in names if name in self.kwargs), default)

    @property
    def source(self) -> Any:
        """The first argument."""
        return self.given(0, "input")

    @property
    def pair(self) -> tuple[Any, Any]:
        """The first two arguments."""
        return self.source, self.given(1, "other", "mat2")


def is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor."""
    return isinstance(value, torch.Tensor)
