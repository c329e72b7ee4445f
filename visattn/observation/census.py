"""Census: what kinds of attention and gates a model computes, without computing any number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from visattn.gates import Kind, gate_modules
from visattn.models.state import undisturbed
from visattn.observation.gate import Gate, Missed
from visattn.observation.gate_observer import GateObserver
from visattn.observation.observer import Observer
from visattn.observation.other import Other


class Counted(NamedTuple):
    """One attention operation of a census, as in `AttentionOperation`."""

    name: str
    shape: tuple[int, int, int, int]
    fused: bool
    normalizer: str
    axis: str
    mixed: bool


class CountedGate(NamedTuple):
    """A module of a registered gate class: its name, its class, and the kinds of gate it showed."""

    name: str
    kind: str
    seen: tuple[Kind, ...]


@dataclass(frozen=True)
class Census:
    """What a pass of a model computes.

    Attributes:
        operations: its attention operations in execution order.
        others: attention-like code that is no attention operation.
        gates: modules of the registered gate classes.
        missed: what should have been seen in these and was not.
        unexplained: attention classes of which no instance contains anything of the above.
    """

    operations: tuple[Counted, ...]
    others: tuple[Other, ...]
    gates: tuple[CountedGate, ...]
    missed: tuple[Missed, ...]
    unexplained: tuple[str, ...]


def census(module: nn.Module, inputs: torch.Tensor) -> Census:
    """Run ``module`` once on ``inputs`` (batch, channel, row, col) and list what it computes.

    Both may be on torch's meta device, where shapes are computed and numbers are not. There the
    weights are believed to be what their operands say, and weights that were changed after their
    softmax are taken not to sum to one.
    """
    gating = GateObserver(module)
    with undisturbed(module), torch.no_grad(), Observer(module) as observer, gating:
        module(inputs)
    gating.require_batch(len(inputs))
    gates = tuple(
        CountedGate(part.name, type(part.module).__name__, _kinds(part.name, gating.gates))
        for part in gate_modules(module)
    )
    operations = tuple(
        Counted(op.name, op.shape, op.fused, op.normalizer, op.axis, op.mixing is not None)
        for op in observer.operations
    )
    known = [
        *(operation.name.partition("#")[0] for operation in operations),
        *(other.name for other in observer.others),
        *(gate.name for gate in gates),
    ]
    missed, unexplained = tuple(gating.missed), _unexplained(module, known)
    return Census(operations, tuple(observer.others), gates, missed, unexplained)


def _kinds(name: str, gates: Sequence[Gate]) -> tuple[Kind, ...]:
    return tuple(gate.kind for gate in gates if gate.name == name)


def _unexplained(module: nn.Module, known: list[str]) -> tuple[str, ...]:
    found: dict[str, bool] = {}
    for name, part in module.named_modules():
        kind = type(part).__name__
        if "attention" in kind.lower() or "Attn" in kind:
            inside = any(k == name or k.startswith(f"{name}.") for k in known)
            within = any(name.startswith(f"{k}.") for k in known)
            found[kind] = found.get(kind, False) or inside or within
    return tuple(sorted(kind for kind, explained in found.items() if not explained))
