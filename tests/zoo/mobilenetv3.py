"""MobileNetV4 hybrids: keys of a strided convolution, pooled queries, plain attention."""

from __future__ import annotations

from typing import Any

from timm.models import _efficientnet_builder as builder
from timm.models.mobilenetv3 import MobileNetV3
from torch import nn

from tests.zoo import SHARP, Member

DOWN = "uir_r1_a3_k3_s2_e2_c32"
MLP = "uir_r1_a0_k0_s1_e2_c32"  # timm lets no stage end in attention
MQA = "mqa_r1_k3_h2_s1_d8_c32"
STRIDED_KEYS = "mqa_r1_k3_h2_s1_v2_d8_c32"
MHA = "mha_r1_k3_h2_s1_d8_c32"
STEM = [["cn_r1_k3_s2_c24"], [DOWN]]


def sharpened(module: nn.Module) -> nn.Module:
    for name, part in module.named_modules():
        if name.endswith("attn.query.proj"):
            part.weight.data.mul_(SHARP)
    return module


def mobilenet(*stages: list[str], query_strides: int = 1, **changes: Any) -> nn.Module:
    blocks = builder.decode_arch_def([*STEM, *stages])
    for block in (block for stage in blocks for block in stage):
        if block["block_type"] == "mqa":
            block["query_strides"] = query_strides
    small = {"num_classes": 5, "num_features": 16, "stem_size": 16, "layer_scale_init_value": 0.3}
    return sharpened(MobileNetV3(blocks, **{**small, **changes}))


HEAD = ("global_pool", "input", "channels_first")
NEAR = 1  # three strided 3 x 3 convolutions before the attention
MEMBERS = {
    "mobilenetv4_strided_keys": Member(
        lambda: mobilenet([STRIDED_KEYS, MLP], [DOWN, MQA, MLP]), (60, 100), HEAD, NEAR
    ),
    "mobilenetv4_pooled_queries": Member(
        lambda: mobilenet([MHA, MQA, MLP], query_strides=2), (64, 96), HEAD, NEAR
    ),
    "mobilenetv4_no_residual": Member(
        lambda: mobilenet([f"{MQA}_noskip", DOWN]), (48, 80), HEAD, NEAR
    ),
    "mobilenetv4_same_padding": Member(
        lambda: mobilenet([STRIDED_KEYS, DOWN], pad_type="same"), (56, 92), HEAD, NEAR
    ),
}
