"""Next-ViT: keys pooled over runs of tokens, on odd grids, with a rest that is left out."""

from __future__ import annotations

from timm.layers import ClassifierHead
from timm.models.nextvit import (
    ConvNormAct,
    NextConvBlock,
    NextStage,
    NextTransformerBlock,
    NextViT,
)
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import Member

SIZE = (40, 104)  # grids of 65 and 21 tokens, one more than their runs hold
WIDTH = 128  # the narrowest that leaves channels to both halves of a transformer block


def nextvit() -> nn.Module:
    """Return a Next-ViT of narrow stages: timm fixes their widths, so the parts are put in."""
    module = NextViT(in_chans=3, num_classes=5, depths=(1, 1, 5, 1), device="meta")
    both = [NextConvBlock, NextTransformerBlock]
    module.stem = nn.Sequential(ConvNormAct(3, 8, stride=2), ConvNormAct(8, 32, stride=2))
    module.stages = nn.Sequential(
        NextStage(32, [32], both[:1], stride=1, sr_ratio=8),
        NextStage(32, [32, WIDTH], both, stride=2, sr_ratio=4, mix_block_ratio=0.75),
        NextStage(WIDTH, [32, WIDTH], both, stride=2, sr_ratio=2, mix_block_ratio=0.75),
        NextStage(WIDTH, [WIDTH], both[1:], stride=2, sr_ratio=1, mix_block_ratio=0.75),
    )
    module.norm = nn.BatchNorm2d(WIDTH)
    module.head = ClassifierHead(WIDTH, 5)
    return calibrated(centred(module), SIZE)


# Strided convolutions of kernel 3 are centred on the corner of a cell: a patch reaches its own
# token and the next one.
MEMBERS = {
    "nextvit": Member(nextvit, SIZE, ("head", "input", "channels_first"), reach=1),
}
