"""Hiera: mask units, pooled queries; all strides consumed, and one left unrolled at the head."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member


def hiera(size: tuple[int, int], **changes: Any) -> nn.Module:
    small = {"embed_dim": 16, "stages": (1, 2, 2), "num_heads": 1, "num_classes": 5}
    arranged = {"q_pool": 2, "mask_unit_size": (4, 4), "mask_unit_attn": (True, True, False)}
    module: nn.Module = timm.create_model(
        "hiera_tiny_224", img_size=size, **{**small, **arranged, **changes}
    )
    return module


SIZE = (64, 96)
OVERLAP = 1  # the stem's kernels of 7 pixels reach into the next cell of 4
MEMBERS = {
    "hiera": Member(lambda: hiera(SIZE), SIZE, ("head", "input", "tokens"), OVERLAP),
    "hiera_unrolled": Member(
        lambda: hiera(SIZE, q_pool=1, use_expand_proj=False, abs_win_pos_embed=True),
        SIZE,
        None,  # the tokens that enter the head are still unrolled, not in the order of the layout
        OVERLAP,
    ),
}
