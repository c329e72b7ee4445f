"""Visformer (Chen et al., ICCV 2021): stages of convolution and of attention on a feature map."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.step import Step, since_attention
from visattn.tokens.strided import POINTWISE, pixels, shrunk, strided

STAGES = (1, 2, 3)


@ADAPTERS.register("visformer")
class VisformerAdapter(Adapter):
    """timm ``Visformer`` with at least one stage of attention."""

    family = "visformer"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it has blocks of attention."""
        home = "timm.models.visformer"
        return is_instance(module, home, "Visformer") and any(
            is_instance(part, home, "Attention") for part in module.modules()
        )

    @property
    def visformer(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return patch embeddings and attention, stage by stage; the head reads an average."""
        stem = [] if self.visformer.stem is None else [self.visformer.stem]
        layout = shrunk(pixels(size), *stem, self.visformer.patch_embed1.proj)
        steps: list[Step] = []
        for number in STAGES:
            embed = getattr(self.visformer, f"patch_embed{number}")
            if number > 1 and embed is not None:
                merging, layout = strided(layout, embed.proj)
                steps.append(merging)
            for index, block in enumerate(getattr(self.visformer, f"stage{number}")):
                if block.attn is not None:
                    steps.append(Step.attention(layout, f"stage{number}.{index}.attn"))
        kept = since_attention(steps)
        readout = pooled_readout(layout, self.visformer.global_pool.pool_type)
        return Chain(kept, layout, readout, notes=self._approximations())

    def cam_site(self) -> Site:
        """Return the normalised feature map that the head pools."""
        return Site("norm", "output", "channels_first")

    def _approximations(self) -> tuple[str, ...]:
        stages = [getattr(self.visformer, f"stage{number}") for number in STAGES]
        first = next(i for i, stage in enumerate(stages) if any(b.attn is not None for b in stage))
        spatial = any(block.spatial_conv for stage in stages[first:] for block in stage)
        return (POINTWISE,) if spatial else ()
