"""Gate ablation: a pass in which one gate is replaced by its mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visattn.gates import Kind
from visattn.models.output import as_scores_tensor
from visattn.models.state import undisturbed
from visattn.observation.call import Call
from visattn.observation.gate import Gate
from visattn.observation.gate_observer import GateObserver, Product
from visattn.observation.gate_running import Running
from visattn.observation.gate_tracing import IN_PLACE

AVERAGED: dict[Kind, tuple[int, ...]] = {
    "channel": (1,),
    "spatial": (2, 3),
    "pointwise": (2, 3),
    "branch": (1,),
}


class GateAblation(GateObserver):
    """Runs a model with the mean of one gate in its place.

    A channel gate is replaced by its mean over channels, a spatial or pointwise one by its mean
    over positions, the weights of branches by equal ones: what is left is how much passes, and what
    is gone is the choice. A distribution multiplies no feature map and cannot be replaced.
    """

    def __init__(self, module: nn.Module, gate: Gate) -> None:
        super().__init__(module)
        self._name, self._kind = gate.name, gate.kind

    def _run(self, running: Running, product: Product | None, call: Call) -> Any:
        meant = product is not None and product.reading.kind == self._kind
        if product is None or not meant or running.name != self._name:
            return super()._run(running, product, call)
        gate, mean = product.factors.gate, _mean(product, running.layout)
        if overwrites(call, gate):
            # The module reads the product from the gate's own memory, so the mean must stand there.
            gate.copy_(mean)
            return call.func(*call.args, **call.kwargs)
        args = tuple(mean if part is gate else part for part in call.args)
        kwargs = {name: mean if part is gate else part for name, part in call.kwargs.items()}
        return call.func(*args, **kwargs)


def ablated(module: nn.Module, inputs: torch.Tensor, gate: Gate) -> torch.Tensor:
    """Return the outputs of ``module`` on ``inputs`` with ``gate`` replaced by its mean.

    One forward pass without gradients; everything is as it was afterwards.
    """
    with undisturbed(module), torch.no_grad(), GateAblation(module, gate):
        return as_scores_tensor(module(inputs))


def overwrites(call: Call, tensor: torch.Tensor) -> bool:
    """Return whether a product is written over ``tensor``: in place, or as its ``out``."""
    inplace = call.func in IN_PLACE and call.source is tensor
    return inplace or call.kwargs.get("out") is tensor


def _mean(product: Product, layout: str) -> torch.Tensor:
    """Return the mean gate with the axes of the model's own, expanded to the product."""
    own, kind = product.factors.gate.expand(product.factors.shape), product.reading.kind
    last = layout == "channels_last" and own.ndim == 4
    places = {1: 3, 2: 1, 3: 2} if last else {1: 1, 2: 2, 3: 3}
    axes = tuple(places[axis] for axis in AVERAGED[kind])
    mean: torch.Tensor = own.mean(dim=axes, keepdim=True)
    return mean.expand(own.shape)
