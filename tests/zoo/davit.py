"""DaViT: padded windows and channels in turn, merged by 2 x 2 (odd maps) and by 3 x 3 kernels."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from tests.zoo import Member

SIZE = (44, 76)
HEAD = ("head", "input", "channels_first")
OVERLAP = 1  # the stem's kernels of 7 pixels and 3 x 3 position encodings read across cells of 4


def davit(name: str, **changes: Any) -> nn.Module:
    small = {"embed_dims": (16, 16, 32), "depths": (1, 1, 1), "num_heads": (2, 2, 2)}
    module: nn.Module = timm.create_model(
        name, window_size=4, num_classes=5, **{**small, **changes}
    )
    return module


MEMBERS = {
    "davit": Member(lambda: davit("davit_tiny"), SIZE, HEAD, OVERLAP),
    "davit_florence": Member(lambda: davit("davit_base_fl"), SIZE, HEAD, OVERLAP),
}
