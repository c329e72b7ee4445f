"""Bottleneck attention, halo attention (strided and pooled), a lambda layer, CLIP's pool."""

from __future__ import annotations

from typing import Any

import timm
from timm.models.byobnet import ByoBlockCfg
from torch import nn

from tests.convolutions import calibrated
from tests.zoo import Member

BRANCH = 0.1  # of a block's branch beside its residual, which a where test must be able to follow
HALO = {"block_size": 4, "halo_size": 1, "num_heads": 2}


def stage(*types: str, **changes: Any) -> list[ByoBlockCfg]:
    return [ByoBlockCfg(type=t, d=1, c=48, s=2, gs=0, br=0.5, **changes) for t in types]


def byobnet(name: str, *stages: list[ByoBlockCfg], **changes: Any) -> nn.Module:
    small = {"stem_chs": 24, "stem_type": "3x3", "stem_pool": "", "num_classes": 5}
    small |= {"act_layer": "silu", "downsample": "avg"}
    module = timm.create_model(name, blocks=stages, **{**small, **changes})
    for part_name, part in module.named_modules():
        if part_name.endswith("conv3_1x1.bn"):
            nn.init.constant_(part.weight, BRANCH)
    return module


def botnet() -> nn.Module:
    stages = stage("bottle", "self_attn"), stage("self_attn", "self_attn"), stage("bottle")
    heads = {"num_heads": 2}
    return byobnet("botnet26t_256", *stages, img_size=(64, 96), self_attn_kwargs=heads)


def halonet(block_size: int, **changes: Any) -> nn.Module:
    stages = stage("bottle", "self_attn"), stage("self_attn"), stage("bottle", "self_attn")
    halo = {**HALO, "block_size": block_size}
    return byobnet("halonet26t", *stages, self_attn_kwargs=halo, **changes)


def halonet_convolved() -> nn.Module:
    """Build blocks whose stride lies in a convolution before the attention."""
    stages = stage("self_attn"), stage("self_attn")
    extra, halo = {"extra_conv": True}, {**HALO, "block_size": 2}
    return byobnet(
        "halonet26t", *stages, downsample="conv1x1", block_kwargs=extra, self_attn_kwargs=halo
    )


def lambda_halonet() -> nn.Module:
    lamb = stage("self_attn", self_attn_layer="lambda", self_attn_kwargs={"r": 3, "num_heads": 2})
    halo = stage("bottle", "self_attn", self_attn_layer="halo", self_attn_kwargs=HALO)
    return byobnet("lamhalobotnet50ts_256", lamb, halo, img_size=(64, 96))


def non_local() -> nn.Module:
    stages = stage("bottle"), stage("bottle")
    return calibrated(byobnet("resnet33ts", *stages, attn_layer="nl"), (56, 88))


def clip(**changes: Any) -> nn.Module:
    stages = stage("bottle"), stage("bottle")
    return byobnet("resnet50_clip", *stages, head_hidden_size=64, img_size=(48, 80), **changes)


HEAD = ("head", "input", "channels_first")
NEAR = 1  # strided 3 x 3 convolutions before the attention, 1 x 1 on the residual path
MEMBERS = {
    "botnet": Member(botnet, (64, 96), HEAD, NEAR),
    "halonet": Member(lambda: halonet(4), (64, 128), HEAD, NEAR),
    "halonet_pooled": Member(
        lambda: halonet(3, downsample="", num_features=24), (48, 96), HEAD, NEAR
    ),
    "halonet_convolved": Member(halonet_convolved, (48, 80), HEAD, NEAR),
    "lambda_halonet": Member(lambda_halonet, (64, 96), HEAD, NEAR),
    "byobnet_non_local": Member(non_local, (56, 88), HEAD, NEAR),
    "clip_resnet": Member(clip, (48, 80)),  # no tensor at the head: it pools by attention
    "clip_resnet_rotary": Member(lambda: clip(head_type="attn_rot"), (48, 80)),
    "clip_resnet_unpooled": Member(lambda: clip(global_pool=""), (48, 80)),
}
