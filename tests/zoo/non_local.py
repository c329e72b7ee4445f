"""Non-local attention in the residual blocks of a ResNet, in two stages."""

from __future__ import annotations

import timm
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import SHARP, Member

SIZE = (72, 104)


def non_local(name: str = "resnet18") -> nn.Module:
    small = {"layers": (1, 1, 1, 1), "channels": (16, 16, 32, 32), "num_classes": 5}
    module = timm.create_model(name, block_args={"attn_layer": "nl"}, **small)
    for part_name, part in module.named_modules():
        if part_name.endswith("se.t"):
            nn.init.normal_(part.weight, std=SHARP * part.in_channels**-0.5)
    return calibrated(centred(module), SIZE)


HEAD = ("global_pool", "input", "channels_first")
NEAR = 2  # a strided convolution of 7 pixels, a maximum of 3 x 3 and a block before the attention
MEMBERS = {
    "non_local": Member(non_local, SIZE, HEAD, NEAR),
    "non_local_deep_stem": Member(lambda: non_local("resnet18d"), SIZE, HEAD, NEAR),
}
