"""EfficientFormer: attention on the last grid, of 7 x 7 cells at every size of input it takes."""

from __future__ import annotations

import timm
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import Member

SIZE = (196, 224)


def efficientformer() -> nn.Module:
    module = timm.create_model(
        "efficientformer_l1",
        depths=(1, 1, 1, 3),
        embed_dims=(8, 16, 24, 32),
        num_vit=2,
        layer_scale_init_value=0.2,
        num_classes=5,
    )
    return calibrated(centred(module), SIZE)


# Strided convolutions of kernel 3 are centred on the corner of a cell: a patch reaches its own
# token and the next one.
MEMBERS = {
    "efficientformer": Member(efficientformer, SIZE, ("norm", "output", "tokens"), reach=1),
}
