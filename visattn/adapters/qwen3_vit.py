"""Qwen3-VL's image encoder (Qwen Team, 2025): rotary attention, tokens merged k x k."""

from __future__ import annotations

from torch import nn

from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.vision_language import VisionLanguageAdapter


@ADAPTERS.register("qwen3_vit")
class Qwen3Adapter(VisionLanguageAdapter):
    """timm ``Qwen3VitEncoder`` and ``Qwen3VitClassifier``."""

    family = "qwen3_vit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's two classes and their subclasses."""
        home = "timm.models.qwen3_vit"
        return is_instance(module, home, "Qwen3VitEncoder", "Qwen3VitClassifier")

    @property
    def merged(self) -> int:
        """Side of the squares of tokens that the merger joins."""
        merger = self.encoder.merger
        return 1 if merger is None else int(merger.merge_size)
