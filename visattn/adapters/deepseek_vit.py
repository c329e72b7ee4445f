"""DeepSeek-V4's image encoder (DeepSeek-AI, 2026): rotary attention, tokens aligned k x k."""

from __future__ import annotations

from torch import nn

from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.vision_language import VisionLanguageAdapter


@ADAPTERS.register("deepseek_vit")
class DeepseekAdapter(VisionLanguageAdapter):
    """timm ``DeepseekVitEncoder`` and ``DeepseekVitClassifier``."""

    family = "deepseek_vit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's two classes and their subclasses."""
        home = "timm.models.deepseek_vit"
        return is_instance(module, home, "DeepseekVitEncoder", "DeepseekVitClassifier")

    @property
    def merged(self) -> int:
        """Side of the squares of tokens that the aligner joins."""
        aligner = self.encoder.aligner
        return 1 if aligner is None else int(aligner.downsample_ratio)
