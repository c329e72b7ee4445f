"""BEiT and BEiT v2 (Bao et al., ICLR 2022): one class token, relative position bias."""

from __future__ import annotations

from torch import nn

from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.vision_transformer import VisionTransformerAdapter


@ADAPTERS.register("beit")
class BeitAdapter(VisionTransformerAdapter):
    """timm ``Beit``; most of its configurations pool the average of the patch tokens."""

    family = "beit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.beit", "Beit")

    def prefix(self) -> tuple[str, ...]:
        """Name the one prefix token."""
        return ("class",)
