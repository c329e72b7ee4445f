"""LIME (Ribeiro, Singh & Guestrin, KDD 2016) on superpixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.errors import UnsupportedMethodError
from visattn.methods.pixels import Scores, require_share
from visattn.methods.registry import METHODS
from visattn.methods.superpixels import LinearFit, SuperpixelMap

TRUSTED = 0.5


@METHODS.register("lime")
@dataclass(frozen=True)
class Lime(SuperpixelMap):
    """Coefficient of every superpixel in a linear model of the score near the image.

    ``min_c sum_k w_k (y(z_k) - c_0 - sum_s c_s z_ks)^2 + ridge |c|^2`` over the full set and random
    sets z of present superpixels (each with probability 1/2), with ``w = exp(-d^2 / (2 width^2))``
    and d = 1 - sqrt(|z| / M) the cosine distance from the full set. A pixel has the coefficient of
    its superpixel, signed, in units of the score. Superpixels, ``baseline``, ``cell``, ``samples``,
    ``seed`` and ``chunk`` as for `kernel_shap`. A fit that explains less than half of the scores'
    variance is told in a warning. Class-specific; ``samples`` forward passes, ``chunk`` at a time.

    Ribeiro, Singh & Guestrin, KDD 2016; computed by captum, with our least squares in float64. The
    paper selects a few superpixels by a lasso and measures distances of images in L2; the authors'
    software, followed here in width 0.25, ridge 1 and cosine distance of sets, explains
    probabilities and paints absent superpixels in their own mean colour.
    """

    formula: ClassVar[str] = "coefficients of a local linear fit on superpixels"
    paper: ClassVar[str] = "Ribeiro, Singh & Guestrin, KDD 2016"

    width: float = 0.25
    ridge: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self, "ridge")
        if self.width <= 0:
            raise UnsupportedMethodError(f"width={self.width!r} is not above 0.")

    @property
    def penalty(self) -> float:
        """Weight of the squared coefficients in the fit."""
        return self.ridge

    def engine(self, scores: Scores, fit: LinearFit) -> Any:
        """Return captum's LIME on sets of superpixels."""
        from captum.attr import Lime as Captum
        from captum.attr._core.lime import get_exp_kernel_similarity_function

        kernel = get_exp_kernel_similarity_function("cosine", self.width)

        def similarity(inputs: Any, changed: Any, present: torch.Tensor, **known: Any) -> float:
            del inputs, changed, known
            near: float = kernel(torch.ones_like(present), present, None)
            return near

        return Captum(scores, fit, similarity, _sets)

    def doubts(self, explained: float) -> list[str]:
        """Return how little a poor fit explains."""
        if explained >= TRUSTED:
            return []
        share = f"{max(0.0, explained):.0%}"
        return [f"a linear model of superpixels explains only {share} of the score's variance"]


def _sets(inputs: Any, *, num_interp_features: int, **known: Any) -> Iterator[torch.Tensor]:
    """Yield which superpixels are present (1, superpixel): all of them, then random halves."""
    del known
    device = inputs.device
    yield torch.ones(1, num_interp_features, device=device, dtype=torch.long)
    while True:
        drawn = torch.rand(1, num_interp_features) < 1 / 2
        yield drawn.to(device=device, dtype=torch.long)
