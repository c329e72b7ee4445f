"""Ledger: what every additive constant of a pass contributes to the score."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from visattn.propagation.call import wide


@dataclass(eq=False)
class Entry:
    """One constant b that was added to make a tensor of the pass.

    Attributes:
        module: dotted name of the innermost module that added it.
        value: ``b * dy/d(sum)``, summed over channels for tokens: (batch, token); summed over all
            but the first axis for other tensors: (batch,). None until the score was differentiated,
            and where the score does not depend on the sum.
    """

    module: str
    value: torch.Tensor | None = None


@dataclass(eq=False)
class Ledger:
    """Constants in the order in which they entered, for one module."""

    module: nn.Module
    entries: list[Entry] = field(default_factory=list)
    _tokens_first: bool = False
    _names: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = {id(part): name for name, part in self.module.named_modules()}

    def note(self, result: torch.Tensor, constant: Any) -> None:
        """Note a constant; what it contributes is computed while the score is differentiated."""
        if not isinstance(constant, torch.Tensor) and not constant:
            return
        entry, swapped = Entry(self._caller()), self._tokens_first
        self.entries.append(entry)
        constant = constant.detach() if isinstance(constant, torch.Tensor) else constant
        place = result.output_nr

        def contribute(gradients: Sequence[torch.Tensor | None]) -> None:
            gradient = gradients[place]
            if gradient is None:
                return
            product = wide(gradient) * constant
            product = product.transpose(0, 1) if swapped and product.ndim == 3 else product
            dims = (2,) if product.ndim == 3 else tuple(range(1, product.ndim))
            entry.value = product.sum(dims) if dims else product

        # At the function and not at the tensor, which may be changed in place afterwards.
        node: Any = result.grad_fn
        node.register_prehook(contribute)

    @contextmanager
    def tokens_first(self) -> Iterator[None]:
        """Say that tensors inside are (token, batch, channel)."""
        before, self._tokens_first = self._tokens_first, True
        try:
            yield
        finally:
            self._tokens_first = before

    def total(self, batch: int) -> torch.Tensor:
        """Return the sum of all contributions (batch,)."""
        found = [e.value.reshape(batch, -1).sum(1) for e in self.entries if e.value is not None]
        return torch.stack(found).sum(0) if found else torch.zeros(batch)

    def tokens(self, inside: str, count: int) -> torch.Tensor | None:
        """Return the sum (batch, token) over constants added to ``count`` tokens in a module."""
        found = [
            entry.value
            for entry in self.entries
            if f"{entry.module}.".startswith(f"{inside}.")
            and entry.value is not None
            and entry.value.ndim == 2
            and entry.value.shape[1] == count
        ]
        return torch.stack(found).sum(0) if found else None

    def _caller(self) -> str:
        """Return the name of the innermost module on the call stack."""
        frame = inspect.currentframe()
        # Never its own frame, whose locals would hold themselves and all that they refer to.
        frame = None if frame is None else frame.f_back
        while frame is not None:
            owner = frame.f_locals.get("self")
            if owner is not None and id(owner) in self._names:
                return self._names[id(owner)]
            frame = frame.f_back
        return ""
