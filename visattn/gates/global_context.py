"""Global context blocks (Cao et al., ICCV workshops 2019)."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.gates.family import GateFamily, Kind
from visattn.gates.registry import GATES


@GATES.register("global_context")
class GlobalContext(GateFamily):
    """``a = softmax_hw(conv(x))`` pools positions, ``sigma(mlp(sum_hw a x))`` weighs channels.

    Where the transform is added and not multiplied, only the distribution is a gate.
    """

    family = "global_context"
    classes = (("timm.layers.global_context", "GlobalContext"),)
    kinds = ("distribution", "channel")
    paper = "Cao et al., ICCVW 2019"

    @classmethod
    def kinds_of(cls, module: nn.Module) -> tuple[Kind, ...]:
        """Return what the options of the block leave."""
        known: Any = module
        there = {
            "distribution": known.conv_attn is not None,
            "channel": known.mlp_scale is not None,
        }
        return tuple(kind for kind in cls.kinds if there[kind])
