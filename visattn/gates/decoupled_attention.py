"""Decoupled fully connected attention (Tang et al., NeurIPS 2022), as in GhostNetV2."""

from __future__ import annotations

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES


@GATES.register("decoupled_attention")
class DecoupledAttention(GateFamily):
    """``sigma`` of horizontal and vertical convolutions on half the grid: a map per channel."""

    family = "decoupled_attention"
    classes = (("timm.models.ghostnet", "GhostModuleV2"),)
    kinds = ("pointwise",)
    paper = "Tang et al., NeurIPS 2022"
