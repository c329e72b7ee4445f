"""Squeeze and excitation (Hu et al., CVPR 2018): timm's, torchvision's, and their variants."""

from __future__ import annotations

from typing import ClassVar, Literal

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES

PAPER = "Hu, Shen & Sun, CVPR 2018"


@GATES.register("squeeze_excite")
class SqueezeExcite(GateFamily):
    """``g = sigma(W2 relu(W1 mean_hw x))``, one value per channel; sigma may be a hard sigmoid."""

    family = "squeeze_excite"
    classes = (
        ("timm.layers.squeeze_excite", "SEModule"),
        ("timm.models._efficientnet_blocks", "SqueezeExcite"),
        ("timm.models.senet", "SEModule"),
        ("torchvision.ops.misc", "SqueezeExcitation"),
    )
    paper = PAPER


@GATES.register("squeeze_excite_channels_last")
class SqueezeExciteChannelsLast(GateFamily):
    """The same on (batch, row, col, channel)."""

    family = "squeeze_excite_channels_last"
    classes = (("timm.layers.squeeze_excite", "SqueezeExciteCl"),)
    layout: ClassVar[Literal["channels_first", "channels_last"]] = "channels_last"
    paper = PAPER
