"""PiT: overlapping patches, two poolings of odd grids, with and without a distillation token."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member

SIZE = (96, 168)
# The normalised tokens behind the last block are prefix tokens alone: read the block itself.
HEAD = ("transformers.2.blocks.0", "output", "tokens")


def pit(name: str) -> nn.Module:
    small: dict[str, Any] = {"base_dims": (16, 16, 16), "depth": (1, 1, 1), "heads": (1, 2, 2)}
    return timm.create_model(name, img_size=SIZE, num_classes=5, **small)


# Patches overlap by half: a changed cell also lies in the patches of its neighbours.
MEMBERS = {
    "pit": Member(lambda: pit("pit_ti_224"), SIZE, HEAD, reach=1),
    "pit_distilled": Member(lambda: pit("pit_ti_distilled_224"), SIZE, HEAD, reach=1),
}
