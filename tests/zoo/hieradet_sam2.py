"""HieraDet: windows with and without padding, pooled queries in windows and globally."""

from __future__ import annotations

from typing import Any

from timm.models.hieradet_sam2 import HieraDet
from torch import nn

from tests.zoo import Member


def hieradet(**changes: Any) -> nn.Module:
    small = {"embed_dim": 16, "stages": (1, 2, 3), "q_pool": 2, "num_classes": 5}
    arranged = {"window_spec": (4, 4, 3), "global_att_blocks": (5,), "global_pos_size": (4, 4)}
    module: nn.Module = HieraDet(**{**small, **arranged, **changes})
    return module


SIZE = (64, 80)
OVERLAP = 1  # the stem's kernels of 7 pixels reach into the next cell of 4
MAP = ("head", "input", "channels_last")
MEMBERS = {
    "hieradet": Member(hieradet, SIZE, MAP, OVERLAP),
    "hieradet_plain_stem": Member(lambda: hieradet(patch_size=(4, 4)), SIZE, MAP),
}
