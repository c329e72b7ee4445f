"""Models of torchvision: the vision transformer, both Swins, MaxViT."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models import MaxVit, SwinTransformer, VisionTransformer
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from tests.zoo import Member

SHARP = 8.0


def vit() -> nn.Module:
    """torchvision's transformer takes squares only."""
    module = VisionTransformer(64, 16, 3, 2, 32, 48, num_classes=5)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.MultiheadAttention):
                part.in_proj_weight[:64] *= SHARP / 2
        module.class_token.normal_()
    return module


def swin(**changes: Any) -> nn.Module:
    return SwinTransformer(
        [4, 4],
        16,
        [2, 2, 2],
        [1, 2, 2],
        [4, 4],
        stochastic_depth_prob=0.0,
        num_classes=5,
        **changes,
    )


def maxvit() -> nn.Module:
    """Partitions of 4 in stages of 16 and 8 cells a side; squares only, like torchvision's."""
    module = MaxVit((64, 64), 16, 4, [16, 32], [2, 1], 8, stochastic_depth_prob=0.0, num_classes=5)
    with torch.no_grad():
        for part in module.modules():
            if hasattr(part, "to_qkv"):
                part.to_qkv.weight[: 2 * len(part.to_qkv.weight) // 3] *= SHARP
                part.merge.weight *= 0.3  # strong mixing blurs where a change is
    return module


POOLED = ("avgpool", "input", "channels_first")
MEMBERS = {
    "torchvision_vit": Member(vit, (64, 64), ("encoder.ln", "output", "tokens")),
    "torchvision_swin": Member(swin, (64, 96), POOLED),
    "torchvision_swin_padded": Member(swin, (60, 100), POOLED),
    "torchvision_swin_v2": Member(
        lambda: swin(block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2),
        (44, 100),
        POOLED,
    ),
    "torchvision_maxvit": Member(
        maxvit, (64, 64), ("classifier.0", "input", "channels_first"), reach=1
    ),
}
