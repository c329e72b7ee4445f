"""Split attention (Zhang et al., CVPR workshops 2022), as in ResNeSt."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.gates.family import GateFamily, Kind
from visattn.gates.registry import GATES


@GATES.register("split_attention")
class SplitAttention(GateFamily):
    """A softmax over the splits of each channel; with a single split a sigmoid per channel."""

    family = "split_attention"
    classes = (("timm.layers.split_attn", "SplitAttn"),)
    kinds = ("branch",)
    paper = "Zhang et al., CVPRW 2022"

    @classmethod
    def kinds_of(cls, module: nn.Module) -> tuple[Kind, ...]:
        """Return ``channel`` for radix 1."""
        known: Any = module
        return ("branch",) if known.radix > 1 else ("channel",)
