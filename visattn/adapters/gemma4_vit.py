"""Gemma 4's image encoder (Gemma Team, 2026): rotary attention, tokens averaged k x k."""

from __future__ import annotations

from torch import nn

from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.vision_language import VisionLanguageAdapter


@ADAPTERS.register("gemma4_vit")
class Gemma4Adapter(VisionLanguageAdapter):
    """timm ``Gemma4VitEncoder`` and ``Gemma4VitClassifier``."""

    family = "gemma4_vit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's two classes and their subclasses."""
        home = "timm.models.gemma4_vit"
        return is_instance(module, home, "Gemma4VitEncoder", "Gemma4VitClassifier")

    @property
    def merged(self) -> int:
        """Side of the squares of tokens that the soft pooling joins."""
        soft = self.encoder.global_pool == "soft"
        return int(self.encoder.pooler.pooling_kernel_size) if soft else 1
