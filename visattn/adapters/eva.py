"""EVA, EVA-02, DINOv3, Perception Encoder and other rotary ViTs of timm's ``eva`` file."""

from __future__ import annotations

from torch import nn

from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.vision_transformer import VisionTransformerAdapter


@ADAPTERS.register("eva")
class EvaAdapter(VisionTransformerAdapter):
    """timm ``Eva``: class and register tokens are optional parameters."""

    family = "eva"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.eva", "Eva")

    def prefix(self) -> tuple[str, ...]:
        """Name the prefix tokens in their order."""
        count = 0 if self.vit.reg_token is None else self.vit.reg_token.shape[1]
        registers = tuple(f"register {i + 1}" for i in range(count))
        return registers if self.vit.cls_token is None else ("class", *registers)

    @property
    def pools_prefix(self) -> bool:
        """Whether the head pools prefix tokens; the attention pool of this family does."""
        return self.vit.attn_pool is not None or super().pools_prefix
