"""ConViT (d'Ascoli et al., ICML 2021): gated positional attention, then ordinary attention.

The first blocks attend among patches, with weights that mix content and position; the class token
joins behind them.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.cait import patch_attention
from visattn.adapters.patches import patch_layout
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.vision_transformer import token_cam_site
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Step


@ADAPTERS.register("convit")
class ConvitAdapter(Adapter):
    """timm ``ConVit``."""

    family = "convit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.convit", "ConVit")

    @property
    def convit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    @property
    def joins(self) -> int | None:
        """Index of the block before which the class token joins, None where it never does."""
        before = int(self.convit.local_up_to_layer)
        enters = self.convit.cls_token is not None and before < len(self.convit.blocks)
        return before if enters else None

    def chain(self, size: Size) -> Chain:
        """Return the blocks: patches alone at first, all tokens from the class token's entry on."""
        joins = self.joins
        layout = patch_layout(self.convit.patch_embed, size, () if joins is None else ("class",))
        names = [f"blocks.{index}.attn" for index in range(len(self.convit.blocks))]
        steps = [patch_attention(name, layout) for name in names[: joins or 0]]
        steps += [Step.attention(layout, name) for name in names[joins or 0 :]]
        return Chain(tuple(steps), layout, self.readout(layout))

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return which tokens the head reads; a class token that never joins cannot be read."""
        if self.joins is None and self.convit.global_pool:
            return Refusal(
                f"the class token would join before block {self.convit.local_up_to_layer} of "
                f"{len(self.convit.blocks)}, so the head takes a patch for it; choose a query: "
                "'mean' or (row, col)"
            )
        return pooled_readout(layout, self.convit.global_pool)

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last attention."""
        return token_cam_site(self.convit.blocks)
