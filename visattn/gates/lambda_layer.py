"""Lambda layers (Bello, ICLR 2021): keys are normalised over the positions."""

from __future__ import annotations

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES


@GATES.register("lambda_layer")
class LambdaLayer(GateFamily):
    """``softmax_hw(K)`` of each key channel, drawn as their mean; there are no token weights."""

    family = "lambda_layer"
    classes = (("timm.layers.lambda_layer", "LambdaLayer"),)
    kinds = ("distribution",)
    paper = "Bello, ICLR 2021"
