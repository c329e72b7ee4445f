"""PVT v2 (Wang et al., CVMJ 2022): global attention to keys that were convolved or pooled."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, moved, pixels, shares, shrunk


@ADAPTERS.register("pvt_v2")
class PyramidVisionTransformerV2Adapter(Adapter):
    """timm ``PyramidVisionTransformerV2``, with convolved or (``li``) with pooled keys."""

    family = "pvt_v2"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.pvt_v2", "PyramidVisionTransformerV2")

    @property
    def pvt(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return overlapping patch embeddings and blocks, stage by stage."""
        layout = shrunk(pixels(size), self.pvt.patch_embed)
        steps: list[Step] = []
        for number, stage in enumerate(self.pvt.stages):
            if stage.downsample is not None:
                moves, layout = moved(layout, stage.downsample)
                steps.extend(moves)
            for index, block in enumerate(stage.blocks):
                name = f"stages.{number}.blocks.{index}.attn"
                every, keys = Reindex.identity(layout.tokens), reduced(layout.grid, block.attn)
                steps.append(Step.block(layout, Placement(name, every, keys)))
        readout = pooled_readout(layout, self.pvt.global_pool)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head's average."""
        return Site(f"stages.{len(self.pvt.stages) - 1}", "output", "channels_first")


def reduced(grid: Size, attention: Any) -> Reindex:
    """Return which tokens each key was made of: (key, token)."""
    if attention.pool is not None:
        return adaptively_pooled(grid, attention.pool.output_size)
    if attention.sr is None:
        return Reindex.identity(grid.height * grid.width)
    return shares(grid, attention.sr)


def adaptively_pooled(grid: Size, into: int | tuple[int, int]) -> Reindex:
    """Return the shares of adaptive average pooling, one axis after the other."""
    high, wide = (into, into) if isinstance(into, int) else into
    rows, cols = (
        nn.functional.adaptive_avg_pool1d(torch.eye(extent, dtype=torch.float64), count).T
        for extent, count in ((grid.height, high), (grid.width, wide))
    )
    return Reindex.dense(torch.kron(rows.contiguous(), cols.contiguous()), normalised=True)
