"""EfficientViT (MSRA): cascaded heads in windows that need padding, and in windows that do not."""

from __future__ import annotations

import timm
from timm.models.efficientvit_msra import CascadedGroupAttention
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import Member

SIZE = (128, 160)


def efficientvit_msra() -> nn.Module:
    """Return an EfficientViT whose heads add less to the next one's channels than stands there.

    Otherwise tokens would have lost their places between the heads of one block.
    """
    module = timm.create_model(
        "efficientvit_m0",
        img_size=128,
        embed_dim=(32, 48, 64),
        key_dim=(8, 8, 8),
        depth=(1, 1, 1),
        num_heads=(2, 3, 2),
        window_size=(4, 3, 2),
        kernels=(5, 3, 3),
        num_classes=5,
    )
    for part in module.modules():
        if isinstance(part, CascadedGroupAttention):
            for qkv in part.qkvs:
                qkv.bn.weight.data[2 * part.key_dim :] = 0.3
    return calibrated(centred(module), SIZE)


# Strided convolutions of kernel 3 are centred on the corner of a cell: a patch reaches its own
# token and the next one.
MEMBERS = {
    "efficientvit_msra": Member(
        efficientvit_msra, SIZE, ("global_pool", "input", "channels_first"), reach=1
    ),
}
