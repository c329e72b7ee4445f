"""TNT: inner attention over pixels, outer attention over patches, both patch embeddings of timm."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import SIZE, Member
from tests.zoo.convit import sharp


def tnt(**changes: Any) -> nn.Module:
    small: dict[str, Any] = {
        "embed_dim": 32,
        "inner_dim": 8,
        "num_heads_inner": 2,
        "num_heads_outer": 2,
    }
    small |= {"depth": 2, "img_size": SIZE, "num_classes": 5}
    return sharp(timm.create_model("tnt_s_patch16_224", **{**small, **changes}), ".qk")


HEAD = ("norm", "output", "tokens")
MEMBERS = {
    "tnt": Member(tnt, head=HEAD),
    "tnt_legacy_mean": Member(lambda: tnt(legacy=True, global_pool="avg"), head=HEAD),
}
