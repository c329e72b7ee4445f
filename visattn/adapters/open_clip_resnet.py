"""open_clip's ResNets (Radford et al., ICML 2021): convolutions, then pooling by attention.

The pool's query is the mean of the feature map plus a position; it attends to itself and to every
cell. What it reads from itself counts as read from all cells alike.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step


@ADAPTERS.register("open_clip_resnet")
class OpenClipResNetAdapter(Adapter):
    """open_clip ``ModifiedResNet``; its output is the image embedding."""

    family = "open_clip_resnet"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match open_clip's class and its subclasses."""
        return is_instance(module, "open_clip.modified_resnet", "ModifiedResNet")

    @property
    def resnet(self) -> Any:
        """The module, whose attributes open_clip defines."""
        return self.module

    @property
    def num_classes(self) -> int | None:
        """None of the outputs is a class."""
        return 0

    @property
    def num_features(self) -> int | None:
        """Number of channels that enter the pool."""
        return int(self.resnet.attnpool.k_proj.in_features)

    def layout(self, size: Size) -> TokenLayout:
        """Return the last feature map, behind the strides of stem and stages."""
        stride = self.stride()
        grid = Size(size.height // stride, size.width // stride)
        return TokenLayout((), grid, (float(stride), float(stride)))

    def stride(self) -> int:
        """Return the product of the strides on the main path."""
        stem = int(self.resnet.conv1.stride[0]) * int(self.resnet.avgpool.kernel_size)
        stages = [getattr(self.resnet, f"layer{n}") for n in range(1, 5)]
        for block in (block for stage in stages for block in stage):
            stem *= int(block.stride)
        return stem

    def chain(self, size: Size) -> Chain:
        """Return the attention pool alone: no attention stands before it."""
        layout = self.layout(size)
        mean, cells = layout.uniform().double()[None], torch.eye(layout.tokens, dtype=torch.float64)
        keys = Reindex.dense(torch.cat([mean, cells]))
        queries = Reindex.identity(layout.tokens + 1)
        row = torch.zeros(layout.tokens + 1)
        row[0] = 1
        pool = Step(layout, (Placement("attnpool", queries, keys),))
        return Chain((), layout, Readout("attention pool (mean query)", row), pool)

    def cam_site(self) -> Site:
        """Return the feature map that enters the pool."""
        return Site("attnpool", "input", "channels_first")
