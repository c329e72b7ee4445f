"""Distilled DeiT (Touvron et al., ICML 2021): class and distillation token, two averaged heads."""

from __future__ import annotations

from torch import nn

from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.vision_transformer import VisionTransformerAdapter
from visattn.tokens.chain import Readout
from visattn.tokens.layout import TokenLayout


@ADAPTERS.register("deit")
class DistilledAdapter(VisionTransformerAdapter):
    """timm ``VisionTransformerDistilled``."""

    family = "deit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.deit", "VisionTransformerDistilled")

    def prefix(self) -> tuple[str, ...]:
        """Name the two prefix tokens."""
        return ("class", "distillation")

    def readout(self, layout: TokenLayout) -> Readout:
        """Return the mean of both tokens: at inference timm averages the two heads."""
        return Readout("mean of class and distillation token", layout.one(0, 1))
