"""EdgeNeXt: attention over channels only, with strides in a layer of their own and in blocks."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member


def edgenext(**changes: Any) -> nn.Module:
    small = {"dims": (16, 16, 32, 32), "depths": (1, 2, 2, 2), "heads": (2, 2, 2, 2)}
    return timm.create_model("edgenext_xx_small", num_classes=5, **{**small, **changes})


# Without weights between tokens no row of tokens is read, so there is no head to prove.
MEMBERS = {
    "edgenext": Member(edgenext, (64, 96)),
    "edgenext_strided_blocks": Member(lambda: edgenext(downsample_block=True), (72, 104)),
}
