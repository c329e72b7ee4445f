"""Efficient channel attention (Wang et al., CVPR 2020), zero padded or circular."""

from __future__ import annotations

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES


@GATES.register("eca")
class EfficientChannelAttention(GateFamily):
    """``g = sigma(conv1d_k(mean_hw x))`` over neighbouring channels."""

    family = "eca"
    classes = (("timm.layers.eca", "EcaModule"), ("timm.layers.eca", "CecaModule"))
    paper = "Wang et al., CVPR 2020"
