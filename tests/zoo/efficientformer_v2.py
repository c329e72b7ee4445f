"""EfficientFormerV2: attention on every second token, attention that merges, attention as usual."""

from __future__ import annotations

import timm
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import Member

SIZE = (96, 160)


def efficientformer_v2() -> nn.Module:
    module = timm.create_model(
        "efficientformerv2_s0",
        img_size=SIZE,
        depths=(1, 1, 2, 2),
        embed_dims=(8, 16, 24, 32),
        num_vit=1,
        mlp_ratios=2,
        layer_scale_init_value=0.5,
        num_classes=5,
    )
    return calibrated(centred(module), SIZE)


# Strided convolutions of kernel 3 are centred on the corner of a cell: a patch reaches its own
# token and the next one.
MEMBERS = {
    "efficientformer_v2": Member(
        efficientformer_v2, SIZE, ("norm", "output", "channels_first"), reach=1
    ),
}
