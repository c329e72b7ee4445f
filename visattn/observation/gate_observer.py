"""GateObserver: takes the gates of registered modules from the multiplications inside them."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from visattn.gates import GateModule, Kind, gate_modules
from visattn.images import Size
from visattn.observation.call import Call, is_tensor
from visattn.observation.gate import IDLE, Gate, Keep, Missed
from visattn.observation.gate_product import (
    Factors,
    Reading,
    channels_first,
    energy,
    factors,
    grid_of,
    merged,
    over_positions,
    read,
)
from visattn.observation.gate_tracing import (
    MATRIX,
    MULTIPLY,
    PRODUCT,
    SOFTMAX,
    Trace,
    follow,
    with_softmax,
)
from visattn.observation.operation import wide

UNSEEN = "it ran, but no {kinds} gate was seen to multiply a feature map in its forward"


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
        rows: the matrix that has mixed the rows of the input, of families that mix.
    """

    part: GateModule
    name: str
    source: torch.Tensor | None
    traces: Any = field(default_factory=WeakTensorKeyDictionary)
    seen: list[Kind] = field(default_factory=list)
    product: torch.Tensor | None = None
    rows: torch.Tensor | None = None

    @property
    def grid(self) -> Size | None:
        """Rows and columns of the input, None where it is no feature map."""
        if self.source is None or self.source.ndim != 4:
            return None
        return grid_of(channels_first(self.source, self.part.family.layout))


@dataclass(frozen=True, eq=False)
class LiveGate:
    """Where the gradient at a kept gate is to be taken.

    ``edge`` is the place in the graph, not the tensor, which layers behind may overwrite.
    ``blank`` has the shape, type and device of the model's own product, ``layout`` says its axes.
    """

    index: int
    edge: Any
    blank: torch.Tensor
    layout: str

    def bring(self, gradient: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient as `Gate.outputs` is laid out; zeros where there is none."""
        whole = self.blank if gradient is None else gradient.detach()
        return merged(channels_first(whole, self.layout))


class GateObserver(TorchFunctionMode):
    """Records the gates of the code that runs inside its ``with`` block.

    Hooks on the gate modules say which one is running; the torch functions inside it say which
    numbers multiply its feature map. Hooks are removed on every exit.

    Attributes:
        gates: what was seen, in execution order.
        missed: modules of gate classes in which no gate was seen; complete after the block.
        live: places where gradients at kept gates are taken.
    """

    def __init__(self, module: nn.Module, keep: Sequence[Keep] = ()) -> None:
        super().__init__()
        self._parts = gate_modules(module)
        self._keep = tuple(keep)
        self._running: list[Running] = []
        self._times: Counter[str] = Counter()
        self._stack = ExitStack()
        self.gates: list[Gate] = []
        self.missed: list[Missed] = []
        self.live: dict[int, LiveGate] = {}

    def __enter__(self) -> GateObserver:
        with ExitStack() as handles:
            for part in self._parts:
                self._watch(part, handles)
            super().__enter__()  # type: ignore[no-untyped-call]
            self._stack = handles.pop_all()
        return self

    def __exit__(self, *problem: object) -> None:
        with self._stack:
            super().__exit__(*problem)  # type: ignore[no-untyped-call]
        self._running.clear()
        self._let_go(self._chosen())
        idle = [part for part in self._parts if not self._times[part.name]]
        self.missed.extend(Missed(p.name, type(p.module).__name__, IDLE) for p in idle)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if not self._running:
            return func(*args, **(kwargs or {}))
        running = self._running[-1]
        with torch.no_grad():  # before the call, which may overwrite the feature map
            product = self._product(running, Call(func, None, args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        call = Call(func, result, args, kwargs or {})
        follow(running.traces, call)
        if func in SOFTMAX:
            _note_softmax(running, call)
        elif func in PRODUCT:
            self._pooled(running, call)
        if product is not None:
            self._record(running, product, result)
        return result

    def require_batch(self, batch: int) -> None:
        """Take out gates whose first axis is not that of ``batch`` images, and name their modules.

        Windows or patches that were folded into it would be taken for images.
        """
        for gate in [gate for gate in self.gates if len(gate.value) != batch]:
            self.gates.remove(gate)
            self.live.pop(gate.index, None)
            reason = f"its first axis has {len(gate.value)} entries for {batch} images"
            self.missed.append(Missed(gate.name, gate.family, reason))

    def _watch(self, part: GateModule, handles: ExitStack) -> None:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._times[part.name] += 1
            times = self._times[part.name]
            name = part.name if times == 1 else f"{part.name}#{times}"
            tensors = [each for each in (*args, *kwargs.values()) if is_tensor(each)]
            running = Running(part, name, tensors[0] if tensors else None)
            for each in tensors:
                running.traces[each] = Trace(is_input=each is running.source)
            self._running.append(running)

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            if self._running and self._running[-1].part is part:
                self._left(self._running.pop(), output)

        for handle in (
            part.module.register_forward_pre_hook(enter, with_kwargs=True),
            part.module.register_forward_hook(leave, always_call=True),
        ):
            handles.callback(handle.remove)

    def _left(self, running: Running, output: Any) -> None:
        lost = [kind for kind in running.part.kinds if kind not in running.seen]
        if lost and output is not None:  # nothing is put out where forward has raised
            reason = UNSEEN.format(kinds=" or ".join(lost))
            kind = type(running.part.module).__name__
            self.missed.append(Missed(running.name, kind, reason))
        if self._running and is_tensor(output):
            self._running[-1].traces[output] = Trace()

    def _product(self, running: Running, call: Call) -> _Product | None:
        if call.func not in MULTIPLY:
            return None
        found = factors(*call.pair, running.traces)
        if found is None or not _in_forward_of(running.part.module):
            return None
        part = running.part
        reading = read(found, part.family.layout, part.kinds, running.seen)
        if reading is None:
            return None
        again = running.product is not None and found.map is running.product
        if reading.kind == "pointwise" and "pointwise" in running.seen and not again:
            return None
        whole = channels_first(found.map.detach().expand(found.shape), part.family.layout)
        copied = merged(whole).clone() if self._keep and not again else None
        return _Product(found, reading, None if again else energy(whole), copied, again)

    def _record(self, running: Running, product: _Product, result: torch.Tensor) -> None:
        family, reading = running.part.family, product.reading
        whole = channels_first(result, family.layout)
        if product.again:
            before = self.gates.pop()
            value = before.value * reading.value
            gate = replace(before, value=value)
        else:
            gate = Gate(
                running.name,
                len(self.gates),
                family.family,
                reading.kind,
                reading.value - family.offset if family.offset else reading.value,
                grid_of(whole),
                family.bounds,
                product.energy,
                product.inputs,
            )
        running.seen.append(reading.kind)
        running.product = result if reading.kind == "pointwise" else None
        self._add(gate, result, whole, family.layout)

    def _add(self, gate: Gate, result: torch.Tensor, whole: torch.Tensor, layout: str) -> None:
        """Keep the newest gate's tensors if they are wanted, and let go of those no longer."""
        self.gates.append(gate)
        waiting = self._chosen() | self._waiting()
        if gate.index in waiting:
            outputs = merged(whole.detach()).clone()
            self.gates[gate.index] = replace(gate, outputs=outputs)
            if result.requires_grad:
                edge = torch.autograd.graph.get_gradient_edge(result)
                self.live[gate.index] = LiveGate(
                    gate.index, edge, result.new_zeros(()).expand(result.shape), layout
                )
        self._let_go(waiting)

    def _let_go(self, wanted: Collection[int]) -> None:
        for index, each in enumerate(self.gates):
            if index not in wanted and each.inputs is not None:
                self.gates[index] = replace(each, inputs=None, outputs=None)
                self.live.pop(index, None)

    def _chosen(self) -> set[int]:
        chosen = [keep.chosen(self.gates) for keep in self._keep]
        return {gate.index for gate in chosen if gate is not None}

    def _waiting(self) -> set[int]:
        """Return the newest gates that a layer counted from the end may still turn out to mean."""
        found: set[int] = set()
        for keep in self._keep:
            counted = [gate.index for gate in self.gates if keep.counts(gate)]
            if isinstance(keep.layer, int) and keep.layer < 0:
                found.update(counted[keep.layer :])
        return found

    def _pooled(self, running: Running, call: Call) -> None:
        """Record a softmax over positions once it is multiplied with something."""
        if "distribution" not in running.part.kinds or "distribution" in running.seen:
            return
        operands = [*call.pair, *call.args]
        known = [running.traces[o] for o in operands if is_tensor(o) and o in running.traces]
        values = [each.softmax for each in known if each.softmax is not None]
        if running.part.family.mixing:
            values = mixed(running, call)
        grid = running.grid
        if not values or grid is None:
            return
        running.seen.append("distribution")
        family = running.part.family.family
        self.gates.append(
            Gate(running.name, len(self.gates), family, "distribution", values[0], grid, (0.0, 1.0))
        )


@dataclass(frozen=True, eq=False)
class _Product:
    """What is read of a multiplication before it runs."""

    factors: Factors
    reading: Reading
    energy: torch.Tensor | None
    inputs: torch.Tensor | None
    again: bool


def _note_softmax(running: Running, call: Call) -> None:
    dim, grid = call.given(1, "dim", "axis"), running.grid
    if "distribution" not in running.part.kinds or not isinstance(dim, int) or grid is None:
        return
    if not is_tensor(call.source) or call.result not in running.traces:
        return
    value = over_positions(call.result, dim, grid)
    if value is not None:
        trace = running.traces[call.result]
        running.traces[call.result] = with_softmax(trace, value)


def mixed(running: Running, call: Call) -> list[torch.Tensor]:
    """Return what two matrices take from each position (batch, row, col), once both were seen.

    ``mean_i P[i, k] * mean_j Q[l, j]``, mean over channels, of ``P x Q``.
    """
    left, right = call.pair
    known = is_tensor(left) and is_tensor(right) and left.ndim == right.ndim == 4
    if call.func not in MATRIX or not known:
        return []
    made = [each in running.traces and running.traces[each].squashed for each in (left, right)]
    if made == [True, False]:
        running.rows = wide(left.detach()).mean(dim=2)
    elif made == [False, True] and running.rows is not None:
        columns = wide(right.detach()).mean(dim=3)
        return [torch.einsum("bci,bcj->bij", running.rows, columns) / columns.shape[1]]
    return []


def _in_forward_of(module: nn.Module) -> bool:
    """Return whether the innermost module on the call stack is ``module``."""
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return owner is module
        frame = frame.f_back
    return False
