"""LowFormer: attention on a map of half the size (odd, so cropped) and on the whole map."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import SHARP, Member

SIZE = (72, 104)
SMALL = {"width_list": [16, 16, 16, 32, 64], "depth_list": [0, 1, 0, 2, 1]}
ENLARGED_LAST = [0, 1, 0, 1, 0]  # no attention behind the one on a map of half the size
SMALL |= {"head_widths": (32, 24), "num_classes": 5}


def sharpened(module: nn.Module) -> nn.Module:
    """Sharpen queries and keys, centre what has stride 1, calibrate."""
    for name, part in module.named_modules():
        if name.endswith(".pwise"):
            nn.init.normal_(part.weight, std=SHARP * part.in_channels**-0.5 / 4)
        elif isinstance(part, nn.ConvTranspose2d) and part.stride == (1, 1):
            nn.init.dirac_(part.weight, groups=part.groups)
    return calibrated(centred(module), SIZE)


def lowformer(name: str, **changes: Any) -> nn.Module:
    return sharpened(timm.create_model(name, **{**SMALL, **changes}))


HEAD = ("global_pool", "input", "channels_first")
NEAR = 1  # two strided 3 x 3 convolutions before the attention
MEMBERS = {
    "lowformer": Member(lambda: lowformer("lowformer_b0"), SIZE, HEAD, NEAR),
    "lowformer_unfused": Member(lambda: lowformer("lowformer_e3", attn=True), SIZE, HEAD, NEAR),
    "lowformer_without_mlp": Member(
        lambda: lowformer("lowformer_b0", attn_mlp=False), SIZE, HEAD, NEAR
    ),
    "lowformer_ends_enlarged": Member(
        lambda: lowformer("lowformer_b0", depth_list=ENLARGED_LAST), SIZE, HEAD, NEAR
    ),
}
