"""Gather-excite (Hu et al., NeurIPS 2018): squeeze and excitation with a spatial extent."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.gates.family import GateFamily, Kind
from visattn.gates.registry import GATES


@GATES.register("gather_excite")
class GatherExcite(GateFamily):
    """``g = sigma(upsample(mlp(gather(x))))``: one value per channel, or a map for each channel."""

    family = "gather_excite"
    classes = (("timm.layers.gather_excite", "GatherExcite"),)
    kinds = ("pointwise",)
    paper = "Hu et al., NeurIPS 2018"

    @classmethod
    def kinds_of(cls, module: nn.Module) -> tuple[Kind, ...]:
        """Return ``channel`` where the whole map is gathered into one number."""
        known: Any = module
        return ("pointwise",) if known.extent or known.gather is not None else ("channel",)
