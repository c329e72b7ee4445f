"""Swin transformers: shifted windows with and without padding, two stages of odd size."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member


def swin(name: str, size: tuple[int, int], **changes: Any) -> nn.Module:
    small = {"embed_dim": 16, "depths": (2, 2, 2), "num_heads": (1, 2, 2), "num_classes": 5}
    return timm.create_model(name, img_size=size, **{**small, **changes})


PLAIN, PADDED = (64, 96), (60, 100)
MEMBERS = {
    "swin": Member(
        lambda: swin("swin_tiny_patch4_window7_224", PLAIN, window_size=4),
        PLAIN,
        ("head", "input", "channels_last"),
    ),
    "swin_padded": Member(
        lambda: swin("swin_tiny_patch4_window7_224", PADDED, window_size=4),
        PADDED,
        ("head", "input", "channels_last"),
    ),
    "swin_v2": Member(
        lambda: swin("swinv2_tiny_window8_256", PLAIN, window_size=4),
        PLAIN,
        ("head", "input", "channels_last"),
    ),
    "swin_v2_cr": Member(
        lambda: swin("swinv2_cr_tiny_224", PLAIN, window_size=4),
        PLAIN,
        ("head", "input", "channels_first"),
    ),
}
