"""TNT, transformer in transformer (Han et al., NeurIPS 2021): pixels inside patches, then patches.

The inner transformer attends among the pixels of one patch; its tokens are folded into that patch's
token. The outer transformer is a plain one.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.patches import patch_layout
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.step import Step

INNER = "attention among the pixels of one patch: it moves nothing between cells of the grid"


@ADAPTERS.register("tnt")
class TntAdapter(Adapter):
    """timm ``TNT``."""

    family = "tnt"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.tnt", "TNT")

    @property
    def tnt(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return the outer attention of each block; inner attention stays inside a cell."""
        layout = patch_layout(self.tnt.pixel_embed, size, ("class",))
        blocks = [f"blocks.{index}" for index in range(len(self.tnt.blocks))]
        return Chain(
            tuple(Step.attention(layout, f"{block}.attn_out") for block in blocks),
            layout,
            pooled_readout(layout, self.tnt.global_pool),
            aside={f"{block}.attn_in": INNER for block in blocks},
        )

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last outer attention."""
        return Site(f"blocks.{len(self.tnt.blocks) - 1}.norm_out", "output", "tokens")
