"""Running: a gate module while its forward runs, and what is known of the tensors inside."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from visattn.gates import GateModule, Kind
from visattn.images import Size
from visattn.observation.call import Call, is_tensor
from visattn.observation.gate_product import channels_first, grid_of, over_positions
from visattn.observation.gate_tracing import MATRIX, Trace, with_softmax
from visattn.observation.operation import wide


@dataclass(eq=False)
class Running:
    """A gate module while its ``forward`` runs.

    Attributes:
        part: the module.
        name: its name in this pass.
        source: its first tensor argument.
        traces: what is known of tensors inside.
        seen: kinds of gate seen so far.
        product: the result of the last pointwise gate, which another factor may go on weighing.
        place: index of the gate that ``product`` belongs to; gates of other modules may stand
            behind it by the time that the next factor comes.
        rows: the matrix that has mixed the rows of the input, of families that mix.
    """

    part: GateModule
    name: str
    source: torch.Tensor | None
    traces: Any = field(default_factory=WeakTensorKeyDictionary)
    seen: list[Kind] = field(default_factory=list)
    product: torch.Tensor | None = None
    place: int = -1
    rows: torch.Tensor | None = None

    @classmethod
    def of(cls, part: GateModule, name: str, given: tuple[Any, ...]) -> Running:
        """Return a module that starts to run with the given arguments."""
        tensors = [each for each in given if is_tensor(each)]
        running = cls(part, name, tensors[0] if tensors else None)
        for each in tensors:
            running.traces[each] = Trace(is_input=each is running.source)
        return running

    @property
    def layout(self) -> str:
        """``channels_first`` or ``channels_last``."""
        return self.part.family.layout

    @property
    def grid(self) -> Size | None:
        """Rows and columns of the input, None where it is no feature map."""
        if self.source is None or self.source.ndim != 4:
            return None
        return grid_of(channels_first(self.source, self.layout))

    @property
    def lost(self) -> tuple[Kind, ...]:
        """The kinds of gate that were declared and not seen."""
        return tuple(kind for kind in self.part.kinds if kind not in self.seen)

    @property
    def awaits_distribution(self) -> bool:
        """Whether a distribution was declared and not seen yet."""
        return "distribution" in self.lost

    def note_softmax(self, call: Call) -> None:
        """Remember a softmax over all positions until it is multiplied with something."""
        dim, grid = call.given(1, "dim", "axis"), self.grid
        if not self.awaits_distribution or not isinstance(dim, int) or grid is None:
            return
        trace = self.traces.get(call.result)
        value = None if trace is None else over_positions(call.result, dim, grid)
        if value is not None:
            self.traces[call.result] = with_softmax(trace, value)

    def pooled(self, call: Call) -> torch.Tensor | None:
        """Return the distribution (batch, row, col) with which a product pools, or None."""
        if not self.awaits_distribution or self.grid is None:
            return None
        if self.part.family.mixing:
            return self._mixed(call)
        operands = [each for each in (*call.pair, *call.args) if is_tensor(each)]
        known = [self.traces[each] for each in operands if each in self.traces]
        return next((trace.softmax for trace in known if trace.softmax is not None), None)

    def _mixed(self, call: Call) -> torch.Tensor | None:
        """Return what the mean position takes from each, once both matrices of P x Q were seen."""
        left, right = call.pair
        known = is_tensor(left) and is_tensor(right) and left.ndim == right.ndim == 4
        if call.func not in MATRIX or not known:
            return None
        made = [each in self.traces and self.traces[each].squashed for each in (left, right)]
        if made == [True, False]:
            self.rows = wide(left.detach()).mean(dim=2)
        elif made == [False, True] and self.rows is not None:
            columns = wide(right.detach()).mean(dim=3)
            return torch.einsum("bci,bcj->bij", self.rows, columns) / columns.shape[1]
        return None

    def is_innermost(self) -> bool:
        """Return whether the innermost module on the call stack is this one."""
        frame = inspect.currentframe()
        frame = None if frame is None else frame.f_back  # its own self is no module
        while frame is not None:
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module):
                return owner is self.part.module
            frame = frame.f_back
        return False
