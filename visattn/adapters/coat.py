"""CoaT (Xu et al., ICCV 2021): factorised attention, which has no weights between tokens."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.patches import patch_layout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.strided import shrunk


@ADAPTERS.register("coat")
class CoatAdapter(Adapter):
    """timm ``CoaT``: four scales one after the other, with or without parallel blocks behind."""

    family = "coat"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.coat", "CoaT")

    @property
    def coat(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain | Refusal:
        """Refuse: ``q (softmax(k)^T v)`` sums over tokens before any query meets a key."""
        del size
        return Refusal(
            "CoaT multiplies keys with values before queries (factorised attention), so no "
            "weights from token to token exist; class activation maps and gradient methods apply"
        )

    def layout(self, size: Size) -> TokenLayout:
        """Return the class token and the grid of the fourth, coarsest scale."""
        layout = patch_layout(self.coat.patch_embed1, size, ("class",))
        return shrunk(layout, *(getattr(self.coat, f"patch_embed{scale}") for scale in (2, 3, 4)))

    def grid(self, size: Size) -> tuple[Size, tuple[float, float]]:
        """Return the grid of the coarsest scale."""
        layout = self.layout(size)
        return layout.grid, layout.cell

    def cam_site(self) -> Site:
        """Return the tokens of the coarsest scale that enter an averaging head, or attention.

        Behind the last attention patch tokens no longer reach a class token.
        """
        if self.coat.global_pool == "avg":
            return Site("norm4", "output", "tokens")
        if self.coat.parallel_blocks is None:
            return Site(
                f"serial_blocks4.{len(self.coat.serial_blocks4) - 1}.norm1", "output", "tokens"
            )
        return Site(
            f"parallel_blocks.{len(self.coat.parallel_blocks) - 1}.norm14", "output", "tokens"
        )
