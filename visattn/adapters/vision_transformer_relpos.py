"""Vision transformers of timm with relative position bias, by default without class token.

The biases are those of Swin v1 (a table) or v2 (a small network on log coordinates).
"""

from __future__ import annotations

from torch import nn

from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.vision_transformer import VisionTransformerAdapter


@ADAPTERS.register("vision_transformer_relpos")
class RelPosAdapter(VisionTransformerAdapter):
    """timm ``VisionTransformerRelPos``."""

    family = "vision_transformer_relpos"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        home = "timm.models.vision_transformer_relpos"
        return is_instance(module, home, "VisionTransformerRelPos")

    def prefix(self) -> tuple[str, ...]:
        """Name the class token where there is one."""
        return () if self.vit.cls_token is None else ("class",)
