"""NesT: nested blocks; timm puts blocks back as a square, so the input is square."""

from __future__ import annotations

from timm.models.nest import Nest

from tests.zoo import Member

SIZE = (64, 64)
HEAD = ("global_pool", "input", "channels_first")
OVERLAP = 1  # the 3 x 3 convolutions and pools between levels read across cells


def nest(padding: str) -> Nest:
    small = {"embed_dims": (16, 16, 32), "depths": (1, 1, 1), "num_heads": (2, 2, 2)}
    return Nest(img_size=SIZE, num_classes=5, pad_type=padding, **small)


MEMBERS = {
    "nest": Member(lambda: nest(""), SIZE, HEAD, OVERLAP),
    "nest_same_padding": Member(lambda: nest("same"), SIZE, HEAD, OVERLAP),
}
