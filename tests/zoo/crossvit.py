"""CrossViT: two branches on grids of different size, fused with and without own fusion blocks.

The head reads the branches from two tensors, one each: tests/adapters/test_crossvit.py proves it.
"""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member
from tests.zoo.convit import sharp

SIZE = (60, 120)


def crossvit(name: str = "crossvit_9_240", **changes: Any) -> nn.Module:
    small: dict[str, Any] = {"img_scale": (1.0, 0.8), "embed_dim": (16, 32), "num_heads": (2, 2)}
    small |= {"img_size": SIZE, "depth": ((1, 2, 0), (1, 1, 0)), "num_classes": 5}
    return sharp(timm.create_model(name, **{**small, **changes}), ".wq", ".wk")


# The convolutional stem of the dagger variants overlaps neighbouring cells.
MEMBERS = {
    "crossvit": Member(crossvit, SIZE),
    "crossvit_fusion_blocks": Member(
        lambda: crossvit(depth=((1, 1, 1), (1, 1, 1)), global_pool="avg"), SIZE
    ),
    "crossvit_dagger": Member(lambda: crossvit("crossvit_9_dagger_240"), SIZE, reach=1),
}
