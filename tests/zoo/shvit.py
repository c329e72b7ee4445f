"""SHViT: one head of a part of the channels, merging between stages, layers fused or not."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import Member

SIZE = (80, 144)


def shvit(**changes: Any) -> nn.Module:
    small = {"embed_dim": (32, 48, 64), "partial_dim": (16, 16, 16), "depth": (1, 1, 1)}
    types = {"types": ("s", "s", "s")}
    module = timm.create_model("shvit_s1", num_classes=5, **{**small, **types, **changes})
    return calibrated(centred(module), SIZE)


def fused() -> nn.Module:
    module = shvit()
    module.fuse()
    return module


HEAD = ("global_pool", "input", "channels_first")
NEAR = 1  # four strided 3 x 3 convolutions before the attention
MEMBERS = {
    "shvit": Member(shvit, SIZE, HEAD, NEAR),
    "shvit_late": Member(lambda: shvit(types=("i", "s", "s")), SIZE, HEAD, NEAR),
    "shvit_fused": Member(fused, SIZE, HEAD, NEAR),
}
