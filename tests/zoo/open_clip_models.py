"""Image towers of open_clip: transformer, CoCa's attention pool, ResNet, timm inside."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

from tests.zoo import SIZE, Member


def vit(**changes: Any) -> nn.Module:
    from open_clip.transformer import VisionTransformer

    module = VisionTransformer(SIZE, 16, 32, 3, 2, 2.0, output_dim=12, **changes)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.MultiheadAttention) and part.in_proj_weight is not None:
                part.in_proj_weight[:64] *= 2.5
    return module


def resnet() -> nn.Module:
    from open_clip.modified_resnet import ModifiedResNet

    return ModifiedResNet([1, 1, 1, 1], 12, 2, image_size=64, width=8)


def timm_inside(pool: str, proj: str, width: int) -> nn.Module:
    from open_clip.timm_model import TimmModel

    return TimmModel("test_vit", width, image_size=160, pool=pool, proj=proj)


def members() -> dict[str, Member]:
    def tokens(norm: str) -> tuple[str, str, str]:
        return (norm, "output", "tokens")

    return {
        "open_clip_vit": Member(vit, SIZE, tokens("ln_post")),
        "open_clip_vit_mean": Member(
            lambda: vit(pool_type="avg", final_ln_after_pool=True, qk_norm=True),
            SIZE,
            tokens("transformer"),
        ),
        "open_clip_coca": Member(
            lambda: vit(attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2), SIZE
        ),
        "open_clip_resnet": Member(resnet, (64, 64), reach=1),
        "open_clip_timm": Member(
            lambda: timm_inside("token", "linear", 12), (160, 160), tokens("trunk.norm")
        ),
        "open_clip_timm_pool": Member(lambda: timm_inside("map", "none", 64), (160, 160)),
    }


MEMBERS = members() if importlib.util.find_spec("open_clip") else {}
