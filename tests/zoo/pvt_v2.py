"""PVT v2: keys thinned out by a convolution, and by adaptive pooling to 7 x 7."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member

SIZE = (60, 100)
OVERLAP = 1  # kernels of 7 and 3 pixels at strides 4 and 2


def pvt(name: str, **changes: Any) -> nn.Module:
    small = {"embed_dims": (16, 16, 32), "num_heads": (2, 2, 2), "mlp_ratios": (2, 2, 2)}
    keys = {"depths": (1, 2, 1), "sr_ratios": (5, 1, 1), "num_classes": 5}
    module: nn.Module = timm.create_model(name, **{**small, **keys, **changes})
    return module


HEAD = ("stages.2", "output", "channels_first")
MEMBERS = {
    "pvt_v2": Member(lambda: pvt("pvt_v2_b0"), SIZE, HEAD, OVERLAP),
    "pvt_v2_pooled": Member(lambda: pvt("pvt_v2_b2_li"), SIZE, HEAD, OVERLAP),
}
