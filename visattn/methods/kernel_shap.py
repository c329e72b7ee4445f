"""Kernel SHAP (Lundberg & Lee, NeurIPS 2017) on superpixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from visattn.methods.pixels import Scores
from visattn.methods.registry import METHODS
from visattn.methods.superpixels import LinearFit, SuperpixelMap


@METHODS.register("kernel_shap")
@dataclass(frozen=True)
class KernelShap(SuperpixelMap):
    """Shapley value of every superpixel, estimated by a weighted linear fit.

    ``min_c sum_z pi(z) (y(z) - c_0 - sum_s c_s z_s)^2`` over sets z of present superpixels, with
    ``pi(z) = (M-1) / (C(M,|z|) |z| (M-|z|))``; captum draws z from pi, so that all drawn ones weigh
    1, and enforces ``sum_s c_s = y(x) - y(baseline)`` by a weight of 10^6 on the full and the empty
    set. A pixel has the coefficient of its superpixel: signed, in units of the score (the map's
    sum over pixels is therefore not the score). About ``n_segments`` superpixels of SLIC with
    ``compactness``, of the photo as the model saw it; absent ones show the ``baseline`` (as for
    `integrated_gradients`). Pixels are averaged over ``cell`` by ``cell``. The sampling error
    falls with the root of ``samples``; it is seeded by the image and ``seed``. The share of the
    scores' variance that the fit explains is in the provenance (``explained``). Class-specific;
    ``samples`` forward passes, ``chunk`` at a time.

    Lundberg & Lee, NeurIPS 2017; computed by captum, with our least squares in float64.
    """

    formula: ClassVar[str] = "Shapley values of superpixels by a weighted linear fit"
    paper: ClassVar[str] = "Lundberg & Lee, NeurIPS 2017"

    def engine(self, scores: Scores, fit: LinearFit) -> Any:
        """Return captum's Kernel SHAP."""
        from captum.attr import KernelShap as Captum

        found = Captum(scores)
        found.interpretable_model = fit
        return found
