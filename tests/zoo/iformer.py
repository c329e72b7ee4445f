"""iFormer: attention over the whole map in two stages, and in windows of a padded map."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import Member

SIZE = (72, 104)


def iformer(window_size: int = 0, **changes: Any) -> nn.Module:
    small = {"dims": (16, 24, 32, 32), "depths": (1, 1, 7, 3), "attn_groups": (0, 0, 2, 1)}
    module = timm.create_model("iformer_t", num_classes=5, **{**small, **changes})
    for part in module.modules():
        if hasattr(part, "window_size"):
            part.window_size = window_size
    return calibrated(centred(module), SIZE)


HEAD = ("stages.3", "output", "channels_first")
NEAR = 1  # strided convolutions of 5 and 3 pixels before the attention
MEMBERS = {
    "iformer": Member(iformer, SIZE, HEAD, NEAR),
    "iformer_windows": Member(lambda: iformer(2), SIZE, HEAD, NEAR),
    "iformer_distilled": Member(lambda: iformer(distillation=True), SIZE, HEAD, NEAR),
}
