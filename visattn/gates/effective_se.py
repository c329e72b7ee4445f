"""Effective squeeze and excitation (Lee & Park, CVPR 2020): one layer without reduction."""

from __future__ import annotations

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES


@GATES.register("effective_se")
class EffectiveSqueezeExcite(GateFamily):
    """``g = sigma(W mean_hw x)``; sigma is a hard sigmoid in timm, a sigmoid in PP-HGNet."""

    family = "effective_se"
    classes = (
        ("timm.layers.squeeze_excite", "EffectiveSEModule"),
        ("timm.models.hgnet", "EseModule"),
    )
    paper = "Lee & Park, CVPR 2020"
