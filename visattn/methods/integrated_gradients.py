"""Integrated gradients (Sundararajan, Taly & Yan, ICML 2017), through captum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visattn.adapters import Adapter
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.baseline import baseline_of, described, require_baseline
from visattn.methods.method import Maps, Passes
from visattn.methods.pixels import PixelMap, Scores, differentiable, reduced
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord

GAP = 0.05


@METHODS.register("integrated_gradients")
@dataclass(frozen=True)
class IntegratedGradients(PixelMap):
    """Gradient averaged on the straight path from a baseline to the image, times the difference.

    ``m = sum_channels (x - x') * 1/K sum_k dy/dx(x' + a_k (x - x'))`` at every input pixel, signed,
    in units of the score; K = ``steps`` (Gauss-Legendre). Pixels are summed over squares of
    ``cell`` by ``cell``, by default the model's patches; 1 keeps the pixels. The ``baseline`` x' is
    ``mean`` (zero in normalised space), ``black``, ``blur`` (the image under a Gaussian of 1/20 of
    its shorter side) or a normalised tensor (channel,) or (channel, row, col); it decides what
    counts as evidence: where x = x' the map is zero. Completeness, ``sum m = y(x) - y(x')``, is
    checked: the gap is in the provenance, and a warning is given when it exceeds 5 % of the
    difference. Class-specific; cost K forward and backward passes, of ``chunk`` images at a time.

    Sundararajan, Taly & Yan, ICML 2017; computed by captum.
    """

    signed: ClassVar[bool] = True
    formula: ClassVar[str] = "(x - x') mean_k dy/dx(x' + a_k (x - x'))"
    paper: ClassVar[str] = "Sundararajan, Taly & Yan, ICML 2017"
    counts: ClassVar[tuple[str, ...]] = ("steps", "chunk")

    steps: int = 50
    baseline: Any = "mean"
    chunk: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_baseline(self.baseline)

    @property
    def additive(self) -> bool:
        """Attributions share out the score."""
        return True

    @property
    def origin(self) -> Any:
        """The baseline that was asked for."""
        return self.baseline

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return one pass per step, and both ends for the completeness gap."""
        del adapter, size
        return Passes(self.steps + 3, self.steps)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return signed attributions of input pixels, summed over channels."""
        from captum.attr import IntegratedGradients as Captum

        del geometries
        with differentiable(record) as inputs:
            scores = Scores(record, "integrated gradients", record.batch * (self.steps + 2))
            attributions, gap = Captum(scores).attribute(
                inputs,
                baselines=baseline_of(self.baseline, record, inputs),
                additional_forward_args=(record.indices,),
                n_steps=self.steps,
                internal_batch_size=max(self.chunk, record.batch),
                return_convergence_delta=True,
            )
        values, gap = reduced(attributions, "sum"), gap.detach()
        share = gap.abs() / values.sum(dim=(1, 2)).sub(gap).abs().clamp(min=1e-12)
        warnings = [
            [f"completeness gap {float(s):.0%}: raise steps above {self.steps}"] if s > GAP else []
            for s in share
        ]
        return self.maps(
            record,
            values,
            warnings=warnings,
            facts={"baseline": described(self.baseline)},
            measured=[{"completeness_gap": float(g)} for g in gap],
        )
