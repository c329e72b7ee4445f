"""Grad-CAM++ (Chattopadhay et al., WACV 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.methods.cam import GradientMap
from visattn.methods.registry import METHODS

FLOOR = 1e-6
TURNED = (
    "Grad-CAM++ turns the sign of {:.2%} of the positive gradients, because the activations of "
    "their channels sum to less than zero, for which it was not derived; gradcam and layercam "
    "have no such denominator"
)


@METHODS.register("gradcam_plusplus")
@dataclass(frozen=True)
class GradCamPlusPlus(GradientMap):
    """Channels weighted by their positive gradients, each weighted by how rare it is.

    ``w_c = sum_p a_cp g_cp^+`` with ``a_cp = g_cp^2 / (2 g_cp^2 + (sum_q X_cq) g_cp^3)``, zero
    where g is; ``m = (sum_c w_c X_c)^+``; X the activation, g the gradient of the score by it, p
    and q positions. Values >= 0, up to the factor below in units of the score. Class-specific.

    The closed form of a holds for ``exp(score)``, whose gradient is ``exp(score) g``; that factor,
    one positive number per image, is left out. g^2 is cancelled, ``a = 1 / (2 + g sum_q X)``, so
    that small gradients neither underflow nor meet a constant in the denominator: the 1e-6 of
    common implementations changes the map by itself. The denominator is kept 1e-6 away from zero
    only. Where activations are signed (tokens) it may be negative, which the derivation does not
    foresee; a warning tells how often. torchcam has ``sum_q g^3 X`` there: another method.

    Chattopadhay et al., WACV 2018.
    """

    formula: ClassVar[str] = "(sum_c (sum_p g^+ / (2 + g sum_q X_cq)) X_c)^+"
    paper: ClassVar[str] = "Chattopadhay et al., WACV 2018"

    def combine(self, values: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """Return ``(sum_c (sum_p a g^+) X)^+``."""
        below = _denominator(values, gradients)
        held = torch.where(
            below.abs() < FLOOR, torch.full_like(below, FLOOR).copysign(below), below
        )
        weights = (gradients.clamp(min=0) / held).sum(dim=(2, 3), keepdim=True)
        return (weights * values).sum(dim=1).clamp(min=0)

    def notes(self, values: torch.Tensor, gradients: torch.Tensor) -> list[list[str]]:
        """Tell where the weights of positive gradients are negative."""
        positive = (gradients > 0).flatten(1)
        odd = (_denominator(values, gradients) <= 0).flatten(1) & positive
        shares = odd.sum(dim=1) / positive.sum(dim=1).clamp(min=1)
        return [[TURNED.format(float(share))] if share > 0 else [] for share in shares]


def _denominator(values: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Return ``2 + g sum_q X``, which is ``(2 g^2 + g^3 sum_q X) / g^2``."""
    return 2 + gradients * values.sum(dim=(2, 3), keepdim=True)
