"""Qwen3-VL's encoder in a classifier: with its merger, and without."""

from __future__ import annotations

from typing import Any

from timm.models.qwen3_vit import Qwen3VitClassifier
from torch import nn

from tests.zoo import Member

SIZE = (64, 96)


def qwen(**changes: Any) -> nn.Module:
    small = {"embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5}
    module: nn.Module = Qwen3VitClassifier(**{**small, "pos_embed_grid_size": 4, **changes})
    return module


MEMBERS = {
    "qwen3": Member(qwen, SIZE, ("encoder", "output", "channels_last")),
    "qwen3_merge": Member(
        lambda: qwen(encoder_pool="merge", out_features=24), SIZE, ("encoder", "output", "tokens")
    ),
}
