"""FastViT: attention in the last stage (sa12) and, with five stages, in two (MobileCLIP 2)."""

from __future__ import annotations

from typing import Any

import timm
from timm.utils import reparameterize_model
from torch import nn

from tests.convolutions import calibrated, centred
from tests.zoo import Member

SIZE = (160, 224)
HEAD = ("head", "input", "channels_first")


def fastvit(name: str, **changes: Any) -> nn.Module:
    module = timm.create_model(name, layer_scale_init_value=0.5, num_classes=5, **changes)
    return calibrated(centred(module), SIZE)


def four_stages() -> nn.Module:
    return fastvit("fastvit_sa12", layers=(1, 1, 1, 2), embed_dims=(8, 16, 32, 32))


def five_stages() -> nn.Module:
    return fastvit("fastvit_mci3", layers=(1, 1, 1, 1, 1), embed_dims=(8, 8, 16, 32, 32))


# Strided convolutions of kernels 3 and 7 are centred on the corner of a cell: a patch reaches its
# own token and the next one.
MEMBERS = {
    "fastvit": Member(four_stages, SIZE, HEAD, reach=1),
    "fastvit_five_stages": Member(five_stages, SIZE, HEAD, reach=1),
    "fastvit_reparameterized": Member(
        lambda: reparameterize_model(five_stages()), SIZE, HEAD, reach=1
    ),
}
