"""LeViT: attention that subsamples between two stages, as linear layers and as convolutions."""

from __future__ import annotations

import torch
from timm.models.levit import Levit
from torch import nn

from tests.zoo import Member

SIZE = (80, 144)


def levit(*, use_conv: bool) -> nn.Module:
    """Return a LeViT whose attention prefers near tokens, as a trained one does.

    Without that a changed patch would be seen everywhere behind the attention that subsamples: it
    has no residual path.
    """
    module = Levit(
        img_size=SIZE,
        embed_dim=(32, 48),
        key_dim=8,
        depth=(1, 2),
        num_heads=(2, 3),
        num_classes=5,
        use_conv=use_conv,
    )
    for part in module.modules():
        if hasattr(part, "attention_biases"):
            rows, cols = (torch.arange(extent) for extent in part.resolution)
            near = -2.0 * (rows[:, None] + cols[None, :])
            part.attention_biases.data.copy_(near.flatten().expand_as(part.attention_biases))
    return module


# Stem convolutions of kernel 3 are centred on the corner of a cell, and the attention between the
# stages leaves every second token out: a patch is met by its own token or the next one.
MEMBERS = {
    "levit": Member(lambda: levit(use_conv=False), SIZE, ("stages.1", "output", "tokens"), reach=1),
    "levit_conv": Member(
        lambda: levit(use_conv=True), SIZE, ("stages.1", "output", "channels_first"), reach=1
    ),
}
