"""Coordinate attention (Hou et al., CVPR 2021) and its relatives, one gate per image axis."""

from __future__ import annotations

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES

HOME = "timm.layers.coord_attn"


@GATES.register("coordinate_attention")
class CoordinateAttention(GateFamily):
    """``a_h[c, i] * a_w[c, j]``, or one sigmoid of their sum: a map for each channel."""

    family = "coordinate_attention"
    classes = (
        (HOME, "CoordAttn"),
        (HOME, "SimpleCoordAttn"),
        (HOME, "EfficientLocalAttn"),
        (HOME, "StripAttn"),
    )
    kinds = ("pointwise",)
    paper = "Hou, Zhou & Feng, CVPR 2021"
