"""What test-time registers change: outputs, and high-norm tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from visattn.models import Model
from visattn.models.inputs import prepare_all
from visattn.outliers import norm_outliers
from visattn.registers.calibration import patch_norms
from visattn.registers.neurons import RegisterNeurons


@dataclass(frozen=True)
class Effect:
    """One image, without and with test-time registers.

    Attributes:
        cosine: similarity of the two outputs (embedding or logits), -1..1.
        outliers: number of high-norm patch tokens after the calibrated block, (without, with).
        peak: largest norm over the median norm of the patch tokens there, (without, with).
    """

    cosine: float
    outliers: tuple[int, int]
    peak: tuple[float, float]


def register_effect(
    model: Model, wrapped: Model, images: Any, found: RegisterNeurons
) -> list[Effect]:
    """Measure each image with a model and with its copy from `with_test_time_registers`."""
    batch = model.stack(prepare_all(model, images))
    plain, changed = (each.run(batch).flatten(1).double() for each in (model, wrapped))
    cosines = functional.cosine_similarity(plain, changed, dim=1).tolist()
    norms = [patch_norms(each, batch)[found.layer] for each in (model, wrapped)]
    counts = [norm_outliers(each, found.threshold).sum(dim=1).tolist() for each in norms]
    peaks = [_peak(each).tolist() for each in norms]
    return [
        Effect(cosine, before_after, peak)
        for cosine, before_after, peak in zip(
            cosines, zip(*counts, strict=True), zip(*peaks, strict=True), strict=True
        )
    ]


def _peak(norms: torch.Tensor) -> torch.Tensor:
    return norms.amax(dim=1) / norms.quantile(0.5, dim=1)
