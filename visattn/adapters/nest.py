"""NesT (Zhang et al., AAAI 2022): attention inside blocks, which merge fourfold between levels."""

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
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.partition import misfit
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, moved
from visattn.tokens.windows import cut, token_plane


@ADAPTERS.register("nest")
class NestAdapter(Adapter):
    """timm ``Nest``; the head reads an average."""

    family = "nest"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.nest", "Nest")

    @property
    def nest(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain | Refusal:
        """Return attention in blocks level by level, a convolution and a max pool between."""
        layout = patch_layout(self.nest.patch_embed, size)
        steps: list[Step] = []
        for number, level in enumerate(self.nest.levels):
            if not isinstance(level.pool, nn.Identity):
                moves, layout = moved(layout, level.pool)
                steps.extend(moves)
            block = Size(level.block_size, level.block_size)
            refusal = misfit(f"levels.{number}", layout, block)
            if refusal is not None:
                return refusal
            index = cut(token_plane(layout.grid), block)
            for depth in range(len(level.transformer_encoder)):
                name = f"levels.{number}.transformer_encoder.{depth}.attn"
                placement = Placement.windowed(name, index, layout.tokens, order="bhw")
                steps.append(Step.block(layout, placement))
        readout = pooled_readout(layout, self.nest.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head's pooling."""
        return Site("global_pool", "input", "channels_first")
