"""MViTv2: keys and queries pooled by convolutions or maxima; with and without a class token."""

from __future__ import annotations

from typing import Any

from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from torch import nn

from tests.zoo import Member


def mvit(**changes: Any) -> nn.Module:
    small = {
        "depths": (1, 2),
        "embed_dim": (16, 32),
        "num_heads": (1, 2),
        "stride_q": ((1, 1), (2, 2)),
    }
    cfg = MultiScaleVitCfg(**{**small, **changes})
    module: nn.Module = MultiScaleVit(cfg, img_size=(96, 96), num_classes=5)
    return module


SIZE, ODD = (64, 96), (60, 92)
DENSE = {"stride_kv_adaptive": (2, 2)}  # with 4, kernels of 3 read no key from the last cells
OVERLAP = 1  # the stem's kernels of 7 pixels reach into the next cell of 4
TOKENS = ("norm", "output", "tokens")
MEMBERS = {
    "mvitv2": Member(mvit, ODD, TOKENS, OVERLAP),
    "mvitv2_class": Member(lambda: mvit(use_cls_token=True, **DENSE), SIZE, TOKENS, OVERLAP),
    "mvitv2_max": Member(
        lambda: mvit(mode="max", residual_pooling=False, expand_attn=False, **DENSE),
        SIZE,
        TOKENS,
        OVERLAP,
    ),
}
