"""Visformer: a stage of convolutions and two of attention; three of attention without a stem."""

from __future__ import annotations

from typing import Any

from timm.models.visformer import Visformer
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import Member

SIZE = (64, 96)


def visformer(**changes: Any) -> nn.Module:
    small = {"img_size": SIZE, "embed_dim": 32, "depth": (1, 2, 2), "num_heads": 2, "group": 2}
    norms = {"norm_layer": nn.BatchNorm2d, "embed_norm": nn.BatchNorm2d}
    module = centred(Visformer(num_classes=5, **{**small, **norms, **changes}))
    return calibrated(module, SIZE)


MEMBERS = {
    "visformer": Member(
        lambda: visformer(init_channels=8, attn_stage="011", spatial_conv="100"),
        SIZE,
        ("norm", "output", "channels_first"),
        reach=1,  # one convolution of kernel 7 and stride 2 before patches that do not overlap
    ),
    "visformer_patches": Member(
        lambda: visformer(init_channels=None, attn_stage="111", spatial_conv="000"),
        SIZE,
        ("norm", "output", "channels_first"),
    ),
}
