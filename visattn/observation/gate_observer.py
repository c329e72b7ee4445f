"""GateObserver: takes the gates of registered modules from the multiplications inside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from visattn.errors import CaptureError, VisattnError
from visattn.gates import GateModule, gate_modules
from visattn.observation.call import Call, is_tensor
from visattn.observation.gate import IDLE, Gate, Keep, Missed
from visattn.observation.gate_keeping import GateKeeping
from visattn.observation.gate_product import (
    Factors,
    Reading,
    channels_first,
    energy,
    factors,
    grid_of,
    merged,
    read,
)
from visattn.observation.gate_running import Running
from visattn.observation.gate_tracing import MULTIPLY, PRODUCT, SOFTMAX, Trace, follow

UNSEEN = "it ran, but no {kinds} gate was seen to multiply a feature map in its forward"


@dataclass(frozen=True, eq=False)
class Product:
    """What is read of a multiplication before it runs.

    Attributes:
        factors: feature map and gate, as the model holds them.
        reading: the gate, laid out; a view of what the call may overwrite.
        value: a copy of the gate, as `Reading.copied`.
        energy: ``mean_hw |x|``; None where a pointwise gate goes on.
        inputs: a copy of the feature map where it may be kept.
    """

    factors: Factors
    reading: Reading
    value: torch.Tensor
    energy: torch.Tensor | None
    inputs: torch.Tensor | None


@contextmanager
def _ours(part: GateModule) -> Iterator[None]:
    """Raise what goes wrong in the observer as such.

    It happens inside the model's forward, and would be taken for an error of the model.
    """
    try:
        yield
    except VisattnError:
        raise
    except Exception as error:
        raise CaptureError(
            f"The gate of {part.name} ({type(part.module).__name__}) could not be observed: "
            f"{type(error).__name__}: {error}. The fault is the observer's, not the model's; "
            "visattn.capture(..., gates=False) and methods without gates run without it."
        ) from error


class GateObserver(TorchFunctionMode):
    """Records the gates of the code that runs inside its ``with`` block.

    Hooks on the gate modules say which one is running; the torch functions inside it say which
    numbers multiply its feature map. Hooks are removed on every exit.

    Attributes:
        missed: modules of gate classes in which no gate was seen; complete after the block.
    """

    def __init__(self, module: nn.Module, keep: Sequence[Keep] = ()) -> None:
        super().__init__()
        self._parts = gate_modules(module)
        self._kept = GateKeeping(keep)
        self._running: list[Running] = []
        self._times: Counter[str] = Counter()
        self._stack = ExitStack()
        self.missed: list[Missed] = []

    @property
    def gates(self) -> list[Gate]:
        """What was seen, in execution order."""
        return self._kept.gates

    @property
    def live(self) -> dict[int, Any]:
        """Places where gradients at kept gates are taken, by index."""
        return self._kept.live

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
        self._kept.finish()
        for part in self._parts:
            if not self._times[part.name]:
                self._miss(part, part.name, IDLE)

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
        running, call = self._running[-1], Call(func, None, args, kwargs or {})
        with _ours(running.part):
            # Before the call, which may overwrite the feature map or the gate.
            product = self._product(running, call) if func in MULTIPLY else None
        call = call._replace(result=self._run(running, product, call))
        with _ours(running.part):
            self._follow(running, product, call)
        return call.result

    def require_batch(self, batch: int) -> None:
        """Take out gates whose first axis is not that of ``batch`` images, and name their modules.

        Windows or patches that were folded into it would be taken for images.
        """
        parts = {part.name: part for part in self._parts}
        for gate in [gate for gate in self.gates if len(gate.value) != batch]:
            self.gates.remove(gate)
            self.live.pop(gate.index, None)
            reason = f"its first axis has {len(gate.value)} entries for {batch} images"
            self._miss(parts[gate.name.partition("#")[0]], gate.name, reason)

    def _run(self, running: Running, product: Product | None, call: Call) -> Any:
        """Run a call as it stands; where gates are replaced, this is the place."""
        del running, product
        return call.func(*call.args, **call.kwargs)

    def _follow(self, running: Running, product: Product | None, call: Call) -> None:
        """Note what a call has done, and record the gate where it was a product with one."""
        follow(running.traces, call)
        if call.func in SOFTMAX:
            running.note_softmax(call)
        elif call.func in PRODUCT:
            self._pool(running, call)
        if product is not None:
            self._record(running, product, call.result)

    def _miss(self, part: GateModule, name: str, reason: str) -> None:
        self.missed.append(Missed(name, type(part.module).__name__, reason))

    def _watch(self, part: GateModule, handles: ExitStack) -> None:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            with _ours(part):
                self._times[part.name] += 1
                times = self._times[part.name]
                name = part.name if times == 1 else f"{part.name}#{times}"
                self._running.append(Running.of(part, name, (*args, *kwargs.values())))

        def leave(_: nn.Module, __: Any, output: Any) -> None:
            with _ours(part):
                if self._running and self._running[-1].part is part:
                    self._left(self._running.pop(), output)

        for handle in (
            part.module.register_forward_pre_hook(enter, with_kwargs=True),
            part.module.register_forward_hook(leave, always_call=True),
        ):
            handles.callback(handle.remove)

    def _left(self, running: Running, output: Any) -> None:
        if running.lost and output is not None:  # nothing is put out where forward has raised
            kinds = " or ".join(running.lost)
            self._miss(running.part, running.name, UNSEEN.format(kinds=kinds))
        if self._running and is_tensor(output):
            self._running[-1].traces[output] = Trace()

    @torch.no_grad()
    def _product(self, running: Running, call: Call) -> Product | None:
        found = factors(*call.pair, running.traces)
        if found is None or not running.is_innermost():
            return None
        reading = read(found, running.layout, running.part.kinds, running.seen)
        if reading is None:
            return None
        goes_on = running.product is not None and found.map is running.product
        if reading.kind == "pointwise" and "pointwise" in running.seen:
            return Product(found, reading, reading.copied(), None, None) if goes_on else None
        whole = channels_first(found.map.detach().expand(found.shape), running.layout)
        copied = merged(whole).clone() if self._kept.wants(reading.kind) else None
        return Product(found, reading, reading.copied(), energy(whole), copied)

    def _record(self, running: Running, product: Product, result: torch.Tensor) -> None:
        family, kind, value = running.part.family, product.reading.kind, product.value
        if product.energy is None:
            self._kept.go_on(running.place, value, result, running.layout)
        else:
            gate = Gate(
                name=running.name,
                index=len(self.gates),
                family=family.family,
                kind=kind,
                value=value - family.offset if family.offset else value,
                grid=grid_of(channels_first(result, running.layout)),
                bounds=family.bounds,
                energy=product.energy,
                inputs=product.inputs,
                offset=family.offset,
            )
            running.place = gate.index
            self._kept.add(gate, result, running.layout)
        running.seen.append(kind)
        running.product = result if kind == "pointwise" else None

    def _pool(self, running: Running, call: Call) -> None:
        """Record a distribution over positions once it is multiplied with something."""
        value, grid = running.pooled(call), running.grid
        if value is None or grid is None:
            return
        running.seen.append("distribution")
        family = running.part.family.family
        gate = Gate(running.name, len(self.gates), family, "distribution", value, grid, (0.0, 1.0))
        self.gates.append(gate)
