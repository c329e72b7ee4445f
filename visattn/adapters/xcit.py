"""XCiT (El-Nouby et al., NeurIPS 2021): cross-covariance attention, then class attention.

Cross-covariance attention weighs channels by channels; patches exchange information only through
it and 3 x 3 convolutions. The class attention at the end is over tokens, as in CaiT.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.cait import class_attention
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.strided import conv_layout

CHANNELS = "cross-covariance attention: its weights are channel by channel, not token by token"


@ADAPTERS.register("xcit")
class XcitAdapter(Adapter):
    """timm ``Xcit``."""

    family = "xcit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.xcit", "Xcit")

    @property
    def xcit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return the class-attention blocks; a walk through the blocks before them is refused."""
        blocks = self.xcit.cls_attn_blocks or ()
        prefix = () if self.xcit.cls_token is None else ("class",)
        layout = stacked_stem(self.xcit.patch_embed.proj, size, prefix)
        names = [f"cls_attn_blocks.{index}.attn" for index in range(len(blocks))]
        return Chain(
            tuple(class_attention(name, layout) for name in names),
            layout,
            self.readout(layout),
            refusal=self.refusal(),
            aside={f"blocks.{i}.attn": CHANNELS for i in range(len(self.xcit.blocks))},
        )

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return the class token; averaged patches met in no attention over tokens."""
        if self.xcit.global_pool == "avg":
            return Refusal(
                "the head averages patch tokens, which exchange information in channel attention "
                "alone; gradcam, layercam and integrated_gradients apply, or query='cls' shows "
                "what the class token reads"
            )
        return pooled_readout(layout, self.xcit.global_pool)

    def refusal(self) -> Refusal:
        """Say why relevance cannot be walked through cross-covariance attention."""
        return Refusal(
            f"{type(self.module).__name__} mixes its tokens by cross-covariance (channel) "
            "attention, which has no token-to-token weights to walk through; method='attention' "
            "shows what the class token reads in the class attention, and gradcam, layercam and "
            "integrated_gradients apply"
        )

    def cam_site(self) -> Site:
        """Return the tokens that enter the last class attention, or an averaging head."""
        blocks = self.xcit.cls_attn_blocks
        if self.xcit.global_pool == "avg" or not blocks:
            return Site("norm", "output", "tokens")
        return Site(f"cls_attn_blocks.{len(blocks) - 1}.norm1", "output", "tokens")


def stacked_stem(stem: Any, size: Size, prefix: tuple[str, ...]) -> TokenLayout:
    """Return the layout behind strided convolutions in sequence; strides multiply."""
    grid, height, width = size, 1.0, 1.0
    for conv in (part for part in stem.modules() if isinstance(part, nn.Conv2d)):
        layout = conv_layout(conv, grid)
        grid, height, width = layout.grid, height * layout.cell[0], width * layout.cell[1]
    return TokenLayout(prefix, grid, (height, width))
