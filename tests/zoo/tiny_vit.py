"""TinyViT: windows with and without padding; strided convolutions before and between stages."""

from __future__ import annotations

import timm
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import Member

PLAIN, PADDED = (64, 96), (56, 104)


def tiny_vit() -> nn.Module:
    module = timm.create_model(
        "tiny_vit_5m_224",
        embed_dims=(8, 16, 32),
        depths=(1, 2, 1),
        num_heads=(1, 2, 2),
        window_sizes=(4, 4, 3),
        num_classes=5,
    )
    for part in module.modules():
        if hasattr(part, "attention_biases"):
            nn.init.normal_(part.attention_biases)
    return calibrated(centred(module), PADDED)


# Strided convolutions of kernel 3 are centred on the corner of a cell: a patch reaches its own
# token and the next one.
MEMBERS = {
    "tiny_vit": Member(tiny_vit, PLAIN, ("head", "input", "channels_first"), reach=1),
    "tiny_vit_padded": Member(tiny_vit, PADDED, ("head", "input", "channels_first"), reach=1),
}
