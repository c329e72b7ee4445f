"""Gemma 4's encoder in a classifier: with its soft tokens, and without."""

from __future__ import annotations

from typing import Any

from timm.models.gemma4_vit import Gemma4ClippableLinear, Gemma4VitClassifier
from torch import nn

from tests.zoo import Member

SIZE = (64, 96)


def gemma(**changes: Any) -> nn.Module:
    small = {"embed_dim": 32, "depth": 3, "num_heads": 2, "head_dim": 16, "num_classes": 5}
    rest = {"intermediate_size": 64, "position_embedding_size": 32, "pooling_kernel_size": 2}
    module: nn.Module = Gemma4VitClassifier(**{**small, **rest, **changes})
    for part in module.modules():
        if isinstance(part, Gemma4ClippableLinear):
            part.weight = part.linear.weight  # where the zoo looks for the weights it sharpens
    return module


TOKENS = ("encoder", "output", "tokens")
MEMBERS = {
    "gemma4": Member(lambda: gemma(num_kv_heads=1), SIZE, TOKENS),
    "gemma4_soft": Member(lambda: gemma(encoder_pool="soft", standardize=True), SIZE, TOKENS),
}
