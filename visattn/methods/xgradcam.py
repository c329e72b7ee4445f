"""XGrad-CAM (Fu et al., BMVC 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.methods.cam import GradientMap
from visattn.methods.registry import METHODS

FLOOR = 1e-6
SMALL = 0.01
CANCELLED = (
    "the activations of {:.1%} of the channels cancel over the positions; XGrad-CAM divides by "
    "their sum, and these channels may drown the others"
)


@METHODS.register("xgradcam")
@dataclass(frozen=True)
class XGradCam(GradientMap):
    """Channels weighted by their gradient, averaged with the activation as the measure.

    ``w_c = sum_p g_cp X_cp / sum_p X_cp``, ``m = (sum_c w_c X_c)^+`` with X the activation, g the
    gradient of the score by it and p the positions. Each channel's term sums to ``sum_p g X``.
    Values >= 0, in units of the score per position. Class-specific.

    The paper divides sums of rectified activations. Of signed ones (tokens) a sum may be near
    zero, and its channel then drowns the others: the absolute sum is kept from falling below 1e-6
    of ``sum_p |X_cp|``, a channel that is zero everywhere has weight zero, and a warning tells how
    many of the weights were divided by less than 1 % of it. pytorch-grad-cam adds 1e-7 to the sum.

    Fu et al., BMVC 2020.
    """

    formula: ClassVar[str] = "(sum_c (sum_p g_c X_c / sum_p X_c) X_c)^+"
    paper: ClassVar[str] = "Fu et al., BMVC 2020"

    def combine(self, values: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """Return ``(sum_c (sum_p g X / sum_p X) X)^+``."""
        total, gross = _sums(values)
        held = torch.where(total.abs() < FLOOR * gross, (FLOOR * gross).copysign(total), total)
        weights = (gradients * values).sum(dim=(2, 3)) / torch.where(gross > 0, held, 1)
        return (weights[..., None, None] * values).sum(dim=1).clamp(min=0)

    def notes(self, values: torch.Tensor, gradients: torch.Tensor) -> list[list[str]]:
        """Tell where activations cancel over the positions."""
        del gradients
        total, gross = _sums(values)
        shares = (total.abs() < SMALL * gross).double().mean(dim=1)
        return [[CANCELLED.format(float(share))] if share > 0 else [] for share in shares]


def _sums(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sums of activations and of their sizes over positions, (batch, channel)."""
    return values.sum(dim=(2, 3)), values.abs().sum(dim=(2, 3))
