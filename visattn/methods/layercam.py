"""LayerCAM (Jiang et al., IEEE TIP 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.methods.cam import GradientMap
from visattn.methods.registry import METHODS


@METHODS.register("layercam")
@dataclass(frozen=True)
class LayerCam(GradientMap):
    """Positions weighted by their own positive gradient.

    ``m = (sum_c g_c^+ * X_c)^+`` with X the activation and g the gradient of the score by it.
    Values >= 0. Class-specific. torchcam adds a tanh scaling that the paper uses for shallow
    layers only; it is left out here.

    Jiang et al., IEEE Transactions on Image Processing, 2021.
    """

    formula: ClassVar[str] = "(sum_c g_c^+ X_c)^+"
    paper: ClassVar[str] = "Jiang et al., IEEE TIP 2021"

    def combine(self, values: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """Return ``(sum_c g^+ X)^+``."""
        return (gradients.clamp(min=0) * values).sum(dim=1).clamp(min=0)
