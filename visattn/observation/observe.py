"""One observed pass: forward, and backward to the captured tensors where a score is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from visattn.adapters import Site
from visattn.errors import CaptureError, ModelError
from visattn.models.output import as_scores_tensor
from visattn.models.state import undisturbed
from visattn.observation.activation import Activation, Reading, reading
from visattn.observation.batch_norm import SoundBatchNorm
from visattn.observation.gate import Gate, Keep, Missed
from visattn.observation.gate_keeping import LiveGate
from visattn.observation.gate_observer import GateObserver
from visattn.observation.observer import Observer
from visattn.observation.operation import AttentionOperation
from visattn.observation.other import Other
from visattn.observation.proof import require_product
from visattn.propagation import PLAIN, Ledger, Rules, propagating

SHOWN = 3


@dataclass(frozen=True, eq=False)
class Observation:
    """What `observe` saw: operations and activations with their gradients, and the outputs.

    Attributes:
        operations: attention operations in execution order.
        activations: the activations that were asked for, by site.
        outputs: the model's outputs.
        others: attention-like code that is no attention operation, with its name and kind.
        ledger: what additive constants contribute, where the rules keep account of them.
        gates: channel and spatial gates in execution order, where they were asked for.
        missed: modules of gate classes in which no gate was seen.
    """

    operations: tuple[AttentionOperation, ...]
    activations: dict[Site, Activation]
    outputs: torch.Tensor
    others: tuple[Other, ...] = ()
    ledger: Ledger | None = None
    gates: tuple[Gate, ...] = ()
    missed: tuple[Missed, ...] = ()


@dataclass(frozen=True, eq=False)
class LivePass:
    """A forward pass whose graph is still there.

    Attributes:
        observer: what watched it.
        readings: the activations that were asked for, by site.
        outputs: the model's outputs, in the graph.
        ledger: account of additive constants, where the rules keep one.
        gating: what watched its gates, where they were asked for.
    """

    observer: Observer
    readings: dict[Site, Reading]
    outputs: torch.Tensor
    ledger: Ledger | None = None
    gating: GateObserver | None = None

    @property
    def operations(self) -> tuple[AttentionOperation, ...]:
        """Attention operations in execution order, without gradients."""
        return tuple(self.observer.operations)

    def differentiated(self, scores: torch.Tensor | None, *, keep: bool = False) -> Observation:
        """Return what was seen, with the gradients of ``scores`` (batch,) if there are any.

        The graph is gone afterwards unless ``keep``.
        """
        live = self.observer.live
        read = [each for each in self.readings.values() if not each.site.norm]
        kept = [] if self.gating is None else list(self.gating.live.values())
        found: Sequence[torch.Tensor | None] = [None] * (len(live) + len(read) + len(kept))
        if scores is not None:
            found = _gradients(scores.sum(), [each.tensor for each in live], keep, kept, read)
        gradients, rest = found[: len(live)], found[len(live) :]
        slopes = {each.site: slope for each, slope in zip(read, rest, strict=False)}
        at_gates = {each.index: slope for each, slope in zip(kept, rest[len(read) :], strict=True)}
        return Observation(
            tuple(
                replace(op, output_gradient=None if gradient is None else each.bring(gradient))
                for op, each, gradient in zip(self.operations, live, gradients, strict=False)
            ),
            {s: Activation(s, r.value, slopes.get(s)) for s, r in self.readings.items()},
            self.outputs.detach(),
            tuple(self.observer.others),
            self.ledger,
            self._gates(at_gates),
            () if self.gating is None else tuple(self.gating.missed),
        )

    def _gates(self, gradients: Mapping[int, torch.Tensor | None]) -> tuple[Gate, ...]:
        gates = () if self.gating is None else tuple(self.gating.gates)
        return tuple(replace(gate, gradient=gradients.get(gate.index)) for gate in gates)

    def gradient(self, score: torch.Tensor, index: int) -> torch.Tensor:
        """Return the derivative of a scalar by the output of operation ``index``; graph kept.

        (batch, head, query, channel); zero where the score does not depend on it.
        """
        each = self.observer.live[index]
        (found,) = _gradients(score, [each.tensor], keep=True)
        return each.bring(found)


@contextmanager
def observing(
    module: nn.Module,
    inputs: torch.Tensor,
    *,
    attention: bool = True,
    sites: Sequence[Site] = (),
    rules: Rules = PLAIN,
    grad: bool = True,
    gates: bool = False,
    keep: Sequence[Keep] = (),
) -> Iterator[LivePass]:
    """Run ``module`` once on ``inputs`` (batch, channel, row, col) and yield the pass, alive.

    Everything is as it was when the block ends. Raises as `observe` does.
    """
    mode = torch.enable_grad() if grad else torch.no_grad()
    with undisturbed(module), torch.inference_mode(mode=False), mode:
        batch = inputs.detach().clone().requires_grad_(grad)
        observer = Observer(module)
        watching = observer if attention else nullcontext()
        sound = SoundBatchNorm() if grad else nullcontext()
        changed = propagating(rules, module)
        gating = GateObserver(module, keep) if gates or keep else None
        with (
            reading(module, sites) as activations, sound, changed as ledger, watching,
            gating or nullcontext(),
        ):  # fmt: skip
            outputs = as_scores_tensor(_forward(module, batch))
        if attention:
            if not (gates and gating and gating.gates):
                _require_attention(module, observer)
            for operation in observer.operations:
                require_product(operation)
        missing = [str(site) for site in sites if site not in activations]
        if missing:
            raise CaptureError(f"The pass did not reach the {', the '.join(missing)}.")
        if gating is not None:
            gating.require_batch(len(batch))
        yield LivePass(observer, activations, outputs, ledger, gating)


def observe(
    module: nn.Module,
    inputs: torch.Tensor,
    *,
    attention: bool = True,
    sites: Sequence[Site] = (),
    score: Callable[[torch.Tensor], torch.Tensor] | None = None,
    rules: Rules = PLAIN,
    gates: bool = False,
    keep: Sequence[Keep] = (),
) -> Observation:
    """Run ``module`` once on ``inputs`` (batch, channel, row, col) and return what it computed.

    With ``score``, a function from outputs (batch, ...) to scores (batch,), the gradients of the
    scores by the attention outputs and activations are taken, under ``rules`` for the backward
    pass; parameters are left alone. Works under ``no_grad``, with frozen weights and inside
    ``inference_mode``. With ``gates`` the channel and spatial gates are recorded, and those that
    ``keep`` names with their feature maps; a pass with gates need not attend.

    Raises `CaptureError` when ``attention`` is asked for and none was observed (the message names
    the attention classes in the module), when its operands cannot be read, or when a sample of its
    rows does not give back its output; `ModelError` when the module cannot run on the inputs.
    """
    options = {"attention": attention, "sites": sites, "rules": rules, "gates": gates, "keep": keep}
    with observing(module, inputs, grad=score is not None, **options) as live:  # type: ignore[arg-type]
        return live.differentiated(None if score is None else score(live.outputs))


def _forward(module: nn.Module, batch: torch.Tensor) -> Any:
    """Run the module; its own complaints about the input come with the input's shape."""
    try:
        return module(batch)
    except (RuntimeError, AssertionError, IndexError, ValueError, TypeError) as error:
        shape = tuple(batch.shape)
        raise ModelError(f"{type(module).__name__} cannot run on {shape}: {error}") from error


def _gradients(
    score: torch.Tensor,
    tensors: Sequence[torch.Tensor],
    keep: bool = False,
    gates: Sequence[LiveGate] = (),
    readings: Sequence[Reading] = (),
) -> list[torch.Tensor]:
    """Return the gradients of a score at tensors, then at readings, then at gates."""
    if not score.requires_grad:
        raise CaptureError(
            "The explained score does not depend on the input through differentiable operations."
        )
    shapes = [*tensors, *(each.value for each in readings)]
    # A reading outside of the graph stands for itself: its gradient is zero.
    edges = [*(r.edge for r in readings if r.edge is not None), *(g.edge for g in gates)]
    if not tensors and not edges:
        return [torch.zeros_like(shape) for shape in shapes]
    try:
        found = torch.autograd.grad(score, [*tensors, *edges], allow_unused=True, retain_graph=keep)
    except RuntimeError as error:
        raise CaptureError(f"The score cannot be differentiated by attention: {error}") from error
    taken = iter(found)
    places = [True] * len(tensors) + [each.edge is not None for each in readings]
    slopes = [next(taken) if there else None for there in places]
    return [
        *(
            torch.zeros_like(shape) if slope is None else slope.detach()
            for shape, slope in zip(shapes, slopes, strict=True)
        ),
        *(gate.bring(slope) for gate, slope in zip(gates, taken, strict=True)),
    ]


def _require_attention(module: nn.Module, observer: Observer) -> None:
    if observer.operations:
        return
    named = {type(part).__name__ for part in module.modules()}
    classes = sorted(name for name in named if "attention" in name.lower() or "Attn" in name)
    kinds = f"its attention classes are {', '.join(classes)}" if classes else "no attention class"
    lost = ", ".join(other.name or "the model itself" for other in observer.unclaimed)
    softmax = f" A softmax in {lost} met no value." if lost else ""
    instead = [str(other) for other in observer.others if other not in observer.unclaimed]
    more = f" and {len(instead) - SHOWN} more" if len(instead) > SHOWN else ""
    seen = f" Seen instead: {', '.join(instead[:SHOWN])}{more}." if instead else ""
    raise CaptureError(
        f"No attention operation was observed in {type(module).__name__}: {kinds}.{softmax}"
        f"{seen} Observed are torch's scaled_dot_product_attention and multi-head attention, and a "
        "softmax between two products; class activation maps and gradient methods do not need them."
    )
