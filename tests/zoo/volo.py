"""VOLO: outlookers on even and odd maps, class attention, averages, the auxiliary classifier."""

from __future__ import annotations

from typing import Any

from timm.models.volo import VOLO

from tests.zoo import Member

SIZE, ODD = (64, 96), (40, 56)
OVERLAP = 1  # the stem's kernels of 7 and 3 pixels read across cells of 8
WHOLE = {"downsamples": (False, False), "pooling_scale": 1, "embed_dims": (16, 16)}


def volo(size: tuple[int, int] = SIZE, **changes: Any) -> VOLO:
    small = {"layers": (2, 1), "embed_dims": (16, 32), "num_heads": (2, 2), "stem_hidden_dim": 8}
    stages = {"downsamples": (True, False), "outlook_attention": (True, False)}
    head = {"num_classes": 5, "use_aux_head": False}
    return VOLO(img_size=size, **{**small, **stages, **head, **changes})


MEMBERS = {
    "volo": Member(volo, SIZE, ("norm", "output", "tokens"), OVERLAP),
    "volo_odd_mean": Member(
        lambda: volo(ODD, global_pool="avg", **WHOLE), ODD, ("norm", "output", "tokens"), OVERLAP
    ),
    "volo_no_class": Member(
        lambda: volo(global_pool="avg", post_layers=None),
        SIZE,
        ("norm", "output", "tokens"),
        OVERLAP,
    ),
    "volo_auxiliary": Member(lambda: volo(use_aux_head=True), SIZE, None, OVERLAP),
}
