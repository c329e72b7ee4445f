"""Census: what kinds of attention and gates a model computes, without computing any number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from visattn.models.state import undisturbed
from visattn.observation.observer import Observer
from visattn.observation.other import Other

GATES = frozenset(
    {
        "AttentionPool2d",
        "AttentionPoolLatent",
        "AttentionPoolPrr",
        "BatNonLocalAttn",
        "BilinearAttnTransform",
        "CbamModule",
        "CecaModule",
        "CoordAttn",
        "EcaModule",
        "EffectiveSEModule",
        "EfficientLocalAttn",
        "GatherExcite",
        "GlobalContext",
        "LambdaLayer",
        "LightCbamModule",
        "NonLocalAttn",
        "RotAttentionPool2d",
        "SEBlock",
        "SEModule",
        "SEWithNorm",
        "SelectiveKernel",
        "SimPool1d",
        "SimPool2d",
        "SimpleCoordAttn",
        "SplitAttn",
        "SqueezeExcitation",
        "SqueezeExcite",
        "SqueezeExciteCl",
        "StripAttn",
    }
)


class Counted(NamedTuple):
    """One attention operation of a census, as in `AttentionOperation`."""

    name: str
    shape: tuple[int, int, int, int]
    fused: bool
    normalizer: str
    axis: str
    mixed: bool


class Gate(NamedTuple):
    """A module that weighs channels, branches or positions."""

    name: str
    kind: str


@dataclass(frozen=True)
class Census:
    """What a pass of a model computes.

    Attributes:
        operations: its attention operations in execution order.
        others: attention-like code that is no attention operation.
        gates: modules of the known gate classes.
        unexplained: attention classes of which no instance contains anything of the above.
    """

    operations: tuple[Counted, ...]
    others: tuple[Other, ...]
    gates: tuple[Gate, ...]
    unexplained: tuple[str, ...]


def census(module: nn.Module, inputs: torch.Tensor) -> Census:
    """Run ``module`` once on ``inputs`` (batch, channel, row, col) and list what it computes.

    Both may be on torch's meta device, where shapes are computed and numbers are not. There the
    weights are believed to be what their operands say, and weights that were changed after their
    softmax are taken not to sum to one.
    """
    with undisturbed(module), torch.no_grad(), Observer(module) as observer:
        module(inputs)
    gates = tuple(
        Gate(name, type(part).__name__)
        for name, part in module.named_modules()
        if type(part).__name__ in GATES
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
    return Census(operations, tuple(observer.others), gates, _unexplained(module, known))


def _unexplained(module: nn.Module, known: list[str]) -> tuple[str, ...]:
    found: dict[str, bool] = {}
    for name, part in module.named_modules():
        kind = type(part).__name__
        if "attention" in kind.lower() or "Attn" in kind:
            inside = any(k == name or k.startswith(f"{name}.") for k in known)
            within = any(name.startswith(f"{k}.") for k in known)
            found[kind] = found.get(kind, False) or inside or within
    return tuple(sorted(kind for kind, explained in found.items() if not explained))
