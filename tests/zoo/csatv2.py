"""CSATv2: attention at the end of two stages."""

from __future__ import annotations

import timm
from torch import nn

from tests.convolutions import centred
from tests.zoo import Member


def csatv2() -> nn.Module:
    small = {"dims": (16, 16, 32), "depths": (1, 2, 2), "transformer_depths": (0, 1, 1)}
    return centred(timm.create_model("csatv2", num_classes=5, ls_init_value=0.3, **small))


MEMBERS = {"csatv2": Member(csatv2, (128, 192), ("head", "input", "channels_first"), 1)}
