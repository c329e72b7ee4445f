"""Convolutions: the gamma rule; their bias is an additive constant."""

from __future__ import annotations

from typing import Any

import torch

from visattn.propagation.call import Call, Handlers, is_activation, named
from visattn.propagation.gamma import Layer, layer_output


def convolution(call: Call) -> Any:
    """Run ``conv*d(input, weight, bias, ...)``, transposed ones too."""
    source, weight, bias = (
        call.given(place, name) for place, name in enumerate(("input", "weight", "bias"))
    )
    if not is_activation(source) or is_activation(weight):
        return call.plain()

    def product(tensor: torch.Tensor, absolute: bool) -> torch.Tensor:
        matrix = weight.abs() if absolute else weight
        result: torch.Tensor = call.run(
            {0: ("input", tensor), 1: ("weight", matrix), 2: ("bias", None)}
        )
        return result

    def run(tensor: torch.Tensor) -> Any:
        return call.run({0: ("input", tensor)})

    shift = None if bias is None else bias.reshape(-1, *[1] * (weight.ndim - 2))
    return layer_output(call, source, run, Layer(product, shift, call.rules.convolution))


HANDLERS: Handlers = {
    **dict.fromkeys(named("conv1d conv2d conv3d"), convolution),
    **dict.fromkeys(named("conv_transpose1d conv_transpose2d conv_transpose3d"), convolution),
}
