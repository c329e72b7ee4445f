"""CPUBone: LowFormer's attention with small kernels on a padded map, enlarged by nearest cells."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member
from tests.zoo.lowformer import ENLARGED_LAST, NEAR, SIZE, SMALL, sharpened


def cpubone(**changes: Any) -> nn.Module:
    return sharpened(timm.create_model("cpubone_nano", **{**SMALL, **changes}))


HEAD = ("head.global_pool", "input", "channels_first")
MEMBERS = {
    "cpubone": Member(lambda: cpubone(small_kernels=False), SIZE, HEAD, NEAR),
    "cpubone_small_kernels": Member(
        lambda: cpubone(small_kernels=True, attn_upsample="nearest"), SIZE, HEAD, NEAR
    ),
    "cpubone_ends_enlarged": Member(
        lambda: cpubone(attn_upsample="nearest", depth_list=ENLARGED_LAST), SIZE, HEAD, NEAR
    ),
    "cpubone_fused": Member(
        lambda: cpubone(fused_conv=True, fused_downsample=True, attn_upsample="nearest"),
        SIZE,
        HEAD,
        NEAR,
    ),
}
