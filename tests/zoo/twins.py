"""Twins: thinned-out keys in every block; padded local windows in turn with thinned-out keys."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member

SIZE = (48, 80)
HEAD = ("norm", "output", "tokens")


def twins(name: str, **changes: Any) -> nn.Module:
    small = {"embed_dims": (16, 16, 32), "num_heads": (2, 2, 2), "mlp_ratios": (2, 2, 2)}
    keys = {"depths": (2, 2, 2), "sr_ratios": (4, 2, 1), "num_classes": 5}
    module: nn.Module = timm.create_model(name, img_size=SIZE, **{**small, **keys, **changes})
    return module


MEMBERS = {
    "twins_pcpvt": Member(lambda: twins("twins_pcpvt_small"), SIZE, HEAD),
    "twins_svt": Member(lambda: twins("twins_svt_small", wss=(4, 4, 4)), SIZE, HEAD),
}
