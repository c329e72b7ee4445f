"""SmoothGrad (Smilkov et al., 2017), SmoothGrad squared and VarGrad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.adapters import Adapter
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.method import Maps, Passes
from visattn.methods.pixels import (
    REDUCTIONS,
    One,
    PixelMap,
    Scores,
    differentiable,
    one_by_one,
    reduced,
    require_choice,
    require_share,
    spread,
)
from visattn.methods.registry import METHODS
from visattn.methods.seeding import seeded
from visattn.observation import AttentionRecord

VARIANTS = {"mean": "smoothgrad", "square": "smoothgrad_sq", "vargrad": "vargrad"}


@METHODS.register("smoothgrad")
@dataclass(frozen=True)
class SmoothGrad(PixelMap):
    """Gradient by the pixels, averaged over noisy copies of the image.

    With ``g_k = dy/dx(x + n_k)`` and K = ``samples`` Gaussian n_k of standard deviation ``sigma``
    times the range of the image's normalised values: ``mean`` is ``|1/K sum_k g_k|``, ``square``
    is ``1/K sum_k g_k^2``, ``vargrad`` is ``1/K sum_k g_k^2 - (1/K sum_k g_k)^2``; then the largest
    of the channels (``channels``: ``max``, ``mean``, ``sum``). Values >= 0. Pixels are summed over
    squares of ``cell`` by ``cell``, by default the model's patches; 1 keeps the pixels. The noise
    is seeded by the image and ``seed``. Class-specific; K forward and backward passes, ``chunk``
    at a time.

    Smilkov et al., arXiv 2017; ``square``: Hooker et al., NeurIPS 2019; ``vargrad``: Adebayo et
    al., NeurIPS 2018. Computed by captum. Averaging absolute gradients, as captum does by default,
    is another map: noise that cancels in the mean stays in it.
    """

    formula: ClassVar[str] = "max_c |mean_k dy/dx_c(x + noise_k)|"
    paper: ClassVar[str] = "Smilkov et al., arXiv 2017"
    counts: ClassVar[tuple[str, ...]] = ("samples", "chunk")

    samples: int = 50
    sigma: float = 0.15
    variant: str = "mean"
    channels: str = "max"
    seed: int = 0
    chunk: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self, "sigma")
        require_choice(self, "variant", tuple(VARIANTS))
        require_choice(self, "channels", tuple(REDUCTIONS))

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return one pass for each noisy copy."""
        del adapter, size
        return Passes(self.samples + 1, self.samples)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return smoothed sensitivities of input pixels."""
        del geometries
        with differentiable(record) as inputs:
            scores = Scores(record, "smoothgrad", record.batch * self.samples)
            found = [self._smoothed(scores, one) for one in one_by_one(record, inputs)]
        values = torch.cat(found)
        values = values.abs() if self.variant == "mean" else values.clamp(min=0)
        return self.maps(record, reduced(values, self.channels), facts={"seed": self.seed})

    def _smoothed(self, scores: Scores, one: One) -> torch.Tensor:
        """Return captum's statistic (1, channel, row, col) of one image's noisy gradients."""
        from captum.attr import NoiseTunnel, Saliency

        with seeded(one.image, self.seed, one.inputs.device):
            found: torch.Tensor = NoiseTunnel(Saliency(scores)).attribute(
                one.inputs,
                nt_type=VARIANTS[self.variant],
                nt_samples=self.samples,
                nt_samples_batch_size=self.chunk,
                stdevs=self.sigma * spread(one.inputs),
                abs=False,
                additional_forward_args=(one.which,),
            )
        return found
