"""MobileNetV5: the maps of two and of three stages joined, to whole ratios and resized."""

from __future__ import annotations

from typing import Any

from timm.models import _efficientnet_builder as builder
from timm.models.mobilenetv5 import MobileNetV5, MobileNetV5Encoder
from torch import nn

from tests.zoo import Member
from tests.zoo.mobilenetv3 import DOWN, MLP, MQA, NEAR, STRIDED_KEYS, sharpened

STAGES = [[DOWN], [DOWN, STRIDED_KEYS, MLP], [DOWN, MQA, MLP]]


def mobilenet(resolution: int, **changes: Any) -> nn.Module:
    small = {"stem_size": 16, "layer_scale_init_value": 0.3, "num_features": 16, "num_classes": 5}
    small |= {"msfa_output_resolution": resolution}
    return sharpened(MobileNetV5(builder.decode_arch_def(STAGES), **{**small, **changes}))


def encoder() -> nn.Module:
    blocks = builder.decode_arch_def(STAGES)
    small = {"stem_size": 16, "layer_scale_init_value": 0.3}
    return sharpened(MobileNetV5Encoder(blocks, msfa_output_resolution=4, **small))


HEAD = ("global_pool", "input", "channels_first")
ENCODED = ("msfa", "output", "channels_first")
MEMBERS = {
    "mobilenetv5": Member(lambda: mobilenet(4), (64, 96), HEAD, NEAR),
    "mobilenetv5_three_scales": Member(
        lambda: mobilenet(3, msfa_indices=(1, 2, 3)), (64, 96), HEAD, NEAR
    ),
    "mobilenetv5_unfused": Member(lambda: mobilenet(4, use_msfa=False), (60, 100), HEAD, NEAR),
    "mobilenetv5_encoder": Member(encoder, (64, 96), ENCODED, NEAR),
}
