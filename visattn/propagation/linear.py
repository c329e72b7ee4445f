"""Linear layers: the gamma rule; their bias is an additive constant."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from visattn.propagation.call import Call, Handlers, is_activation
from visattn.propagation.gamma import Layer, layer_output


def linear(call: Call) -> Any:
    """Run ``linear(input, weight, bias)``."""
    source, weight, bias = (
        call.given(place, name) for place, name in enumerate(("input", "weight", "bias"))
    )
    if not is_activation(source) or is_activation(weight):
        return call.plain()

    def product(tensor: torch.Tensor, absolute: bool) -> torch.Tensor:
        return functional.linear(tensor, weight.abs() if absolute else weight)

    def run(tensor: torch.Tensor) -> Any:
        return call.run({0: ("input", tensor)})

    def transposed(gradient: torch.Tensor, absolute: bool) -> torch.Tensor:
        matrix: torch.Tensor = weight.abs() if absolute else weight
        return gradient @ matrix

    layer = Layer(product, bias, call.rules.linear, transposed)
    return layer_output(call, source, run, layer)


HANDLERS: Handlers = {functional.linear: linear}
