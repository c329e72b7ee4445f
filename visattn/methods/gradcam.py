"""Grad-CAM (Selvaraju et al., ICCV 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.methods.cam import GradientMap
from visattn.methods.registry import METHODS


@METHODS.register("gradcam")
@dataclass(frozen=True)
class GradCam(GradientMap):
    """Channels weighted by their mean gradient.

    ``w_c = mean_p g_cp``, ``m = (sum_c w_c X_c)^+`` with X the activation, g the gradient of the
    score by it and p the positions (patch tokens without prefix). Values >= 0, in units of the
    score per position. Class-specific.

    Selvaraju et al., ICCV 2017.
    """

    formula: ClassVar[str] = "(sum_c mean_p(g_c) X_c)^+"
    paper: ClassVar[str] = "Selvaraju et al., ICCV 2017"

    def combine(self, values: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """Return ``(sum_c mean_p(g) X)^+``."""
        weights = gradients.mean(dim=(2, 3), keepdim=True)
        return (weights * values).sum(dim=1).clamp(min=0)
