"""GC ViT: windows with own and with global queries, pooled twice, once and not at all."""

from __future__ import annotations

from timm.models.gcvit import GlobalContextVit

from tests.zoo import Member

SIZE = (64, 96)
OVERLAP = 1  # strided, depthwise and pooling kernels of 3 x 3 read across cells of 4 pixels


def gcvit() -> GlobalContextVit:
    return GlobalContextVit(
        img_size=SIZE,
        embed_dim=16,
        depths=(2, 2, 2),
        num_heads=(2, 2, 2),
        window_ratio=(16, 16, 16),
        num_classes=5,
    )


MEMBERS = {"gcvit": Member(gcvit, SIZE, ("head", "input", "channels_first"), OVERLAP)}
