"""NaFlexViT: registers and an average, an attention pool, and a class token on rotary blocks."""

from __future__ import annotations

from typing import Any

from timm.models.naflexvit import NaFlexVit
from torch import nn

from tests.zoo import Member

SIZE = (40, 72)  # not whole patches: padded


def naflex(**changes: Any) -> nn.Module:
    small = {"embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5}
    module: nn.Module = NaFlexVit(**{**small, "dynamic_img_pad": True, **changes})
    return module


TOKENS = ("norm", "output", "tokens")
MEMBERS = {
    "naflex_mean": Member(lambda: naflex(reg_tokens=4, global_pool="avg"), SIZE, TOKENS),
    "naflex_latent_pool": Member(lambda: naflex(reg_tokens=1), SIZE),  # the head pools by attention
    "naflex_class": Member(
        lambda: naflex(class_token=True, reg_tokens=2, global_pool="token", rope_type="axial"),
        SIZE,
        TOKENS,
    ),
}
