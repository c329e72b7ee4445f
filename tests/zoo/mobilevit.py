"""MobileViT: patches that cover the feature map, and patches for which it is resized."""

from __future__ import annotations

import torch
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.mobilevit import MobileVitBlock
from torch import nn

from tests.zoo import Member


def mobile(channels: int) -> tuple[ByoBlockCfg, ...]:
    narrow = {"bottle_in": True, "linear_out": True}
    wide = {"transformer_dim": 16, "transformer_depth": 2, "patch_size": 2}
    return (
        ByoBlockCfg("bottle", 1, channels, s=2, gs=1, br=2.0, block_kwargs=narrow),
        ByoBlockCfg("mobilevit", 1, channels, s=1, block_kwargs=wide),
    )


def mobilevit() -> nn.Module:
    assert MobileVitBlock  # its module registers the kind of block
    stem = {"stem_chs": 8, "stem_type": "3x3", "stem_pool": "", "downsample": ""}
    cfg = ByoModelCfg((mobile(16), mobile(16)), act_layer="silu", **stem)
    return centred(ByobNet(cfg, num_classes=5))


def centred(module: nn.Module) -> nn.Module:
    """Make kernels of stride 1 count mostly at their centre: the walk takes them as the identity.

    Behind random kernels a token's strongest source may be a neighbour, which proves nothing.
    """
    faint = torch.full((3, 3), 0.05)
    faint[1, 1] = 1
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d) and (part.kernel_size, part.stride) == ((3, 3), (1, 1)):
                part.weight.mul_(faint)
    return module


FITTING, ODD = (32, 48), (36, 52)
OVERLAP = 1  # kernels of 3 x 3 before the attention reach into the next cell
MAP = ("head", "input", "channels_first")
MEMBERS = {
    "mobilevit": Member(mobilevit, FITTING, MAP, OVERLAP),
    "mobilevit_resized": Member(mobilevit, ODD, MAP, OVERLAP),
}
