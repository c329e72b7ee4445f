"""XCiT: channel attention, two class-attention blocks, 16-pixel and 8-pixel stems."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import SIZE, Member
from tests.zoo.convit import sharp


def xcit(name: str = "xcit_nano_12_p16_224", **changes: Any) -> nn.Module:
    small = {"embed_dim": 32, "depth": 1, "num_heads": 2, "eta": 0.5, "num_classes": 5}
    return sharp(timm.create_model(name, img_size=SIZE, **{**small, **changes}), "attn.k")


HEAD = ("norm", "output", "tokens")
# Convolutions of the stem and of the local patch interaction overlap their neighbours.
MEMBERS = {
    "xcit": Member(xcit, head=HEAD, reach=1),
    "xcit_p8": Member(
        lambda: xcit("xcit_nano_12_p8_224", tokens_norm=True), (40, 56), HEAD, reach=1
    ),
    "xcit_mean": Member(lambda: xcit(global_pool="avg"), head=HEAD, reach=1),
}
