"""Relative position bias: per block or shared, network or table, with and without class token."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import SIZE, Member


def relpos(name: str = "vit_relpos_small_patch16_224", **changes: Any) -> nn.Module:
    small = {"embed_dim": 32, "depth": 3, "num_heads": 2, "img_size": SIZE, "num_classes": 5}
    # Init values of a layer scale are 1e-5, which would hide its block.
    return timm.create_model(name, **{**small, "init_values": 0.5, **changes})


HEAD = ("norm", "output", "tokens")
MEMBERS = {
    "relpos_mean": Member(lambda: relpos(fc_norm=False), head=HEAD),
    "relpos_class": Member(
        lambda: relpos("vit_relpos_base_patch16_clsgap_224", global_pool="token", fc_norm=False),
        head=HEAD,
    ),
    "relpos_shared": Member(
        lambda: relpos("vit_srelpos_small_patch16_224", fc_norm=False), head=HEAD
    ),
    "relpos_table": Member(lambda: relpos(rel_pos_type="bias", fc_norm=False), head=HEAD),
    "relpos_post_norm": Member(
        lambda: relpos("vit_relpos_medium_patch16_rpn_224", fc_norm=False), head=HEAD
    ),
}
