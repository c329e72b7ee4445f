"""ViTs on convolutional networks: ResNet stem and stages, MobileCLIP's stem, ViTamin's stages."""

from __future__ import annotations

from functools import partial
from typing import Any

import timm
from timm.layers import HybridEmbed
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from timm.models.vitamin import GeGluMlp, MbConvStages, VitCfg
from torch import nn

from tests.zoo import Member

SIZE, WIDE = (64, 96), (96, 160)
SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}


def hybrid(backbone: nn.Module, *, proj: bool = True, **changes: Any) -> nn.Module:
    embed = partial(HybridEmbed, backbone=backbone, proj=proj)
    settings = {"img_size": SIZE, "patch_size": 1, "embed_layer": embed, **SMALL, **changes}
    return VisionTransformer(**settings)


def resnet() -> nn.Module:
    shape: dict[str, Any] = {"layers": (1, 1), "channels": (128, 128), "stem_chs": 32}
    return ResNetV2(num_classes=0, global_pool="", **shape)


def mobile_clip() -> nn.Module:
    channels = (8, 16, 32)
    return ConvStem(channels=channels, stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0)


def vitamin() -> nn.Module:
    stages = MbConvStages(VitCfg(embed_dim=(8, 16, 32), depths=(1, 1, 1), stem_width=8))
    return hybrid(stages, proj=False, mlp_layer=GeGluMlp, class_token=False, global_pool="avg")


HEAD = ("norm", "output", "tokens")
# Convolutions of the ResNet stages and of ViTamin overlap their neighbours.
MEMBERS = {
    "hybrid_stem": Member(
        lambda: timm.create_model("vit_tiny_r_s16_p8_224", img_size=WIDE, **SMALL), WIDE, HEAD, 1
    ),
    "hybrid_resnet": Member(lambda: hybrid(resnet()), SIZE, HEAD, 1),
    "hybrid_mobile_clip": Member(
        lambda: hybrid(mobile_clip(), proj=False, no_embed_class=True), SIZE, HEAD
    ),
    "vitamin": Member(vitamin, SIZE, HEAD, 1),
}
