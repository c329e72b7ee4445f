"""SAM's encoder: padded windows beside global attention; a neck of convolutions, and none."""

from __future__ import annotations

from typing import Any

from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn

from tests.zoo import Member
from tests.zoo.mobilevit import centred

SIZE = (80, 112)


def sam(**changes: Any) -> nn.Module:
    small = {"embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5, "img_size": SIZE}
    arranged = {"window_size": 3, "global_attn_indexes": (1,), "neck_chans": 16}
    module: nn.Module = VisionTransformerSAM(**{**small, **arranged, **changes})
    return centred(module)


MAP = ("head", "input", "channels_first")
MEMBERS = {
    "sam": Member(lambda: sam(use_rel_pos=True), SIZE, MAP),
    "sam_rope": Member(lambda: sam(use_rope=True, neck_chans=None), SIZE, MAP),
}
