"""Spatial attention of CSATv2, which its block multiplies with the feature map."""

from __future__ import annotations

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES


@GATES.register("csatv2")
class Csatv2Block(GateFamily):
    """Statistics over channels, a transformer block on 7 x 7 cells, upsampled; no sigmoid."""

    family = "csatv2"
    classes = (("timm.models.csatv2", "Block"),)
    kinds = ("spatial",)
    bounds = None
    telling = False  # half of all models have a class called Block
    paper = "MLPA Lab, unpublished (timm 1.0.31)"
