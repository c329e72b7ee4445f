"""MaxViT and CoAtNet: windows and spread grids, whole maps, both in parallel, TF padding."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member

SIZE = (64, 96)
HEAD = ("head", "input", "channels_first")
OVERLAP = 1  # the stem's and the blocks' 3 x 3 convolutions read across cells of 4 pixels


def maxxvit(name: str, kinds: tuple[Any, ...], **changes: Any) -> nn.Module:
    small = {"embed_dim": (16, 16, 32)[-len(kinds) :], "depths": (1,) * len(kinds)}
    narrow = {"stem_width": (8, 8), "head_hidden_size": None, "num_classes": 5}
    heads = {
        "transformer_dim_head": 8,
        "transformer_head_first": False,
        "transformer_init_values": 0.1,
    }
    changed = {**small, **narrow, **heads, **changes}
    module: nn.Module = timm.create_model(name, img_size=SIZE, block_type=kinds, **changed)
    return module


MEMBERS = {
    "maxvit": Member(lambda: maxxvit("maxvit_pico_rw_256", ("M",) * 3), SIZE, HEAD, OVERLAP),
    "maxvit_tf": Member(
        lambda: maxxvit("maxvit_tiny_tf_224", ("M",) * 2, head_hidden_size=16), SIZE, HEAD, OVERLAP
    ),
    "maxvit_parallel": Member(
        lambda: maxxvit("maxvit_tiny_pm_256", ("PM",) * 2), SIZE, HEAD, OVERLAP
    ),
    "maxvit_nchw": Member(
        lambda: maxxvit("maxvit_pico_rw_256", ("M",) * 2, transformer_use_nchw_attn=True),
        SIZE,
        HEAD,
        OVERLAP,
    ),
    "maxxvit_grid_only": Member(
        lambda: maxxvit("maxxvitv2_nano_rw_256", ("M",) * 2), SIZE, HEAD, OVERLAP
    ),
    "coatnet": Member(
        lambda: maxxvit("coatnet_rmlp_1_rw_224", ("C", "T", "T")), SIZE, HEAD, OVERLAP
    ),
    "coatnet_mixed": Member(
        lambda: maxxvit("coatnet_nano_cc_224", ("C", ("C", "T"), ("C", "T")), depths=(1, 2, 2)),
        SIZE,
        HEAD,
        OVERLAP,
    ),
}
