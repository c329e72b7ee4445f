"""Gradient SHAP, or expected gradients (Lundberg & Lee, 2017; Erion et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.baseline import baseline_of, described, require_baseline
from visattn.methods.method import Maps, Passes
from visattn.methods.pixels import (
    One,
    PixelMap,
    Scores,
    differentiable,
    one_by_one,
    reduced,
    require_share,
    spread,
)
from visattn.methods.registry import METHODS
from visattn.methods.seeding import generator, seeded
from visattn.observation import AttentionRecord


@METHODS.register("gradient_shap")
@dataclass(frozen=True)
class GradientShap(PixelMap):
    """Gradient at random points between random baselines and the image, times the difference.

    ``m = sum_channels 1/K sum_k (x - x'_k) * dy/dx(x'_k + a_k (x - x'_k))`` with K = ``samples``,
    a_k uniform in 0..1 and x'_k drawn with replacement from K copies of the ``baseline`` (as for
    `integrated_gradients`) with Gaussian noise of ``sigma`` times the range of the image's
    normalised values. Signed, in units of the score; in expectation the sum is ``y(x)`` minus the
    mean score of the baselines. Pixels are summed over squares of ``cell`` by ``cell``, by default
    the model's patches; 1 keeps the pixels. Seeded by the image and ``seed``. Class-specific; K
    forward and backward passes, ``chunk`` at a time.

    Lundberg & Lee, NeurIPS 2017 (the name is of their software); Erion et al., Nature Machine
    Intelligence 2021. Computed by captum. Both draw baselines from training images, which a model
    does not carry.
    """

    signed: ClassVar[bool] = True
    formula: ClassVar[str] = "mean_k (x - x'_k) dy/dx(x'_k + a_k (x - x'_k))"
    paper: ClassVar[str] = "Lundberg & Lee, NeurIPS 2017"
    counts: ClassVar[tuple[str, ...]] = ("samples", "chunk")

    samples: int = 50
    sigma: float = 0.15
    baseline: Any = "mean"
    seed: int = 0
    chunk: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share(self, "sigma")
        require_baseline(self.baseline)

    @property
    def additive(self) -> bool:
        """Attributions share out the score."""
        return True

    @property
    def origin(self) -> Any:
        """The baseline that was asked for; noise is around it."""
        return self.baseline

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return one pass for each random point."""
        del adapter, size
        return Passes(self.samples + 1, self.samples)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return signed attributions of input pixels, summed over channels."""
        del geometries
        with differentiable(record) as inputs:
            scores = Scores(record, "gradient_shap", record.batch * self.samples)
            first = torch.split(baseline_of(self.baseline, record, inputs), 1)
            parts = zip(one_by_one(record, inputs), first, strict=True)
            found = torch.cat([self._expected(scores, one, start) for one, start in parts])
        facts = {"baseline": f"{described(self.baseline)}, with noise", "seed": self.seed}
        return self.maps(record, reduced(found, "sum"), facts=facts)

    def _expected(self, scores: Scores, one: One, start: torch.Tensor) -> torch.Tensor:
        """Return captum's mean (1, channel, row, col) over random points of one image."""
        from captum.attr import GradientShap as Captum

        draws = generator(one.image, self.seed)
        total = torch.zeros_like(one.inputs)
        with seeded(one.image, self.seed, one.inputs.device):
            for done in range(0, self.samples, self.chunk):
                count = min(self.chunk, self.samples - done)
                noise = torch.randn(count, *start.shape[1:], generator=draws).to(start)
                total += count * Captum(scores).attribute(
                    one.inputs,
                    baselines=start + self.sigma * spread(one.inputs) * noise,
                    n_samples=count,
                    additional_forward_args=(one.which,),
                )
        return total / self.samples
