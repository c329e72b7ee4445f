"""CAFormer: two stages of convolution, two of attention."""

from __future__ import annotations

from timm.models.metaformer import (
    Attention,
    LayerNorm2dNoBias,
    LayerNormNoBias,
    MetaFormer,
    SepConv,
)
from torch import nn

from tests.convolutions import centred
from tests.zoo import Member


def caformer() -> nn.Module:
    return centred(
        MetaFormer(
            depths=(1, 1, 2, 2),
            dims=(8, 16, 32, 64),
            token_mixers=[SepConv, SepConv, Attention, Attention],
            norm_layers=[LayerNorm2dNoBias] * 2 + [LayerNormNoBias] * 2,
            num_classes=5,
        )
    )


# Strided convolutions of kernels 7 and 3 are centred on the corner of a cell: a patch reaches its
# own token and the next one.
MEMBERS = {
    "caformer": Member(
        caformer, (80, 144), ("head.global_pool", "input", "channels_first"), reach=1
    ),
}
