"""CaiT: talking heads over patches, two class-attention blocks, pooled by class token or mean."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import SIZE, Member
from tests.zoo.convit import sharp


def cait(**changes: Any) -> nn.Module:
    small = {"embed_dim": 32, "depth": 2, "num_heads": 2, "init_values": 0.5, "num_classes": 5}
    return sharp(
        timm.create_model("cait_xxs24_224", img_size=SIZE, **{**small, **changes}), "attn.k"
    )


HEAD = ("norm", "output", "tokens")
MEMBERS = {
    "cait": Member(cait, head=HEAD),
    "cait_mean": Member(lambda: cait(global_pool="avg"), head=HEAD),
}
