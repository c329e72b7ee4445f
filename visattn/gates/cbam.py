"""Convolutional block attention (Woo et al., ECCV 2018): a channel gate, then a spatial one."""

from __future__ import annotations

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES

HOME = "timm.layers.cbam"
PAPER = "Woo et al., ECCV 2018"


@GATES.register("cbam_channel")
class CbamChannel(GateFamily):
    """``Mc = sigma(mlp(mean_hw x) + mlp(max_hw x))``; the light one: one mlp of half the sum."""

    family = "cbam_channel"
    classes = ((HOME, "ChannelAttn"),)
    paper = PAPER


@GATES.register("cbam_spatial")
class CbamSpatial(GateFamily):
    """``Ms = sigma(BN(conv7x7[mean_c x'; max_c x']))`` of the channel-gated x'."""

    family = "cbam_spatial"
    classes = ((HOME, "SpatialAttn"), (HOME, "LightSpatialAttn"))
    kinds = ("spatial",)
    paper = PAPER
