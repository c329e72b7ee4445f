"""NaFlexViT (NaViT, Dehghani et al., NeurIPS 2023; FlexiViT; SigLIP 2; RADIO) on whole images."""

from __future__ import annotations

from torch import nn

from visattn.adapters.patches import patch_layout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.vision_transformer import VisionTransformerAdapter
from visattn.images import Size


@ADAPTERS.register("naflexvit")
class NaFlexAdapter(VisionTransformerAdapter):
    """timm ``NaFlexVit`` given pixels (batch, channel, row, col), not packed patches."""

    family = "naflexvit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.naflexvit", "NaFlexVit")

    def grid(self, size: Size) -> tuple[Size, tuple[float, float]]:
        """Return the patch grid, from the arithmetic of the embedding."""
        layout = patch_layout(self.vit.embeds, size)
        return layout.grid, layout.cell
