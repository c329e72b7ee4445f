"""DeepSeek-V4's encoder in a classifier: with its aligner on a padded grid, and without."""

from __future__ import annotations

from typing import Any

from timm.models.deepseek_vit import DeepseekVitClassifier
from torch import nn

from tests.zoo import Member

SIZE = (56, 98)  # 4 x 7 patches: neither divides by the aligner's 3


def deepseek(**changes: Any) -> nn.Module:
    small = {"embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5}
    module: nn.Module = DeepseekVitClassifier(**{**small, **changes})
    return module


MEMBERS = {
    "deepseek": Member(deepseek, SIZE, ("encoder", "output", "channels_last")),
    "deepseek_align": Member(
        lambda: deepseek(encoder_pool="align", out_features=24),
        SIZE,
        ("encoder", "output", "tokens"),
    ),
}
