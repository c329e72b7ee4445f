"""ConViT: gated positional attention over patches, then the class token joins.

Its relative positions need a square number of patches; 2 x 8 of them are not a square.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from tests.zoo import SHARP, Member

SIZE = (32, 128)


def sharp(module: nn.Module, *suffixes: str) -> nn.Module:
    """Sharpen projections that hold queries and keys without values."""
    with torch.no_grad():
        for name, part in module.named_modules():
            if name.endswith(suffixes) and isinstance(part, nn.Linear):
                part.weight.mul_(SHARP)
    return module


def convit(**changes: Any) -> nn.Module:
    small: dict[str, Any] = {"embed_dim": 16, "depth": 4, "num_heads": 2, "local_up_to_layer": 2}
    small |= {"img_size": SIZE, "num_classes": 5}
    return sharp(timm.create_model("convit_tiny", **{**small, **changes}), ".qk")


HEAD = ("norm", "output", "tokens")
MEMBERS = {
    "convit": Member(convit, SIZE, HEAD),
    "convit_mean": Member(lambda: convit(global_pool="avg", depth=3), SIZE, HEAD),
}
