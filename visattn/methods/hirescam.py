"""HiResCAM (Draelos & Carin, 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.errors import UnsupportedMethodError
from visattn.methods.cam import GradientMap
from visattn.methods.feature_map import FeatureMap
from visattn.methods.method import Maps
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord

CANCELLED = 1e-3
INVARIANT = "a normalisation follows that makes sum_c g X zero at every position"


@METHODS.register("hirescam")
@dataclass(frozen=True)
class HiResCam(GradientMap):
    """Every position weighted by its own gradient, before the sum over channels.

    ``m = (sum_c g_c * X_c)^+`` with X the activation and g the gradient of the score by it. Before
    the clamp it sums to the score minus the bias where average pooling and one linear layer
    follow. Values >= 0, in units of the score. Class-specific.

    In front of a normalisation of each token the score does not change when a token is scaled, so
    that ``sum_c g_c X_c`` is zero at every position (Euler): such a layer is refused where it was
    named, and gives an empty map that says so where it is the family's only site.

    Draelos & Carin, 2020 (arXiv:2011.08891).
    """

    formula: ClassVar[str] = "(sum_c g_c X_c)^+"
    paper: ClassVar[str] = "Draelos & Carin, 2020 (arXiv:2011.08891)"

    def combine(self, values: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """Return ``(sum_c g X)^+``, exactly zero where only rounding would be left of it."""
        kept = ~self._cancels(values, gradients)
        return (gradients * values).sum(dim=1).clamp(min=0) * kept[:, None, None]

    def of(self, record: AttentionRecord, features: FeatureMap) -> Maps:
        """Return the maps; raises where a named layer cannot have one."""
        gradients = features.gradients
        if self.names and gradients is not None and self._cancels(features.values, gradients).all():
            raise UnsupportedMethodError(
                f"HiResCAM is zero at the {features.site}: {INVARIANT}. Name the module of that "
                "normalisation, or use gradcam."
            )
        return super().of(record, features)

    def notes(self, values: torch.Tensor, gradients: torch.Tensor) -> list[list[str]]:
        """Say where the map is empty by construction."""
        note = f"HiResCAM is empty at this layer: {INVARIANT}; gradcam is not"
        return [[note] if cancels else [] for cancels in self._cancels(values, gradients)]

    def _cancels(self, values: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """Return for each image whether the terms of the sum over channels cancel everywhere."""
        terms = gradients * values
        left = terms.sum(dim=1).abs().amax(dim=(1, 2))
        gross = terms.abs().sum(dim=1).amax(dim=(1, 2))
        return (gross > 0) & (left < CANCELLED * gross)
