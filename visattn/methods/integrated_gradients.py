"""Integrated gradients (Sundararajan, Taly & Yan, ICML 2017), through captum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from visattn.adapters import Adapter
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord

GAP = 0.05


@METHODS.register("integrated_gradients")
@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Gradient averaged on the straight path from a baseline to the image, times the difference.

    ``m = sum_channels (x - x') * 1/K sum_k dy/dx(x' + a_k (x - x'))`` at every input pixel, signed,
    in units of the score; K = ``steps`` (Gauss-Legendre). Pixels are summed over squares of
    ``cell`` by ``cell``, which keeps the total. The baseline x' is zero in normalised
    space, the mean colour. Completeness, ``sum m = y(x) - y(x')``, is checked: the gap is in the
    provenance, and a warning is given when it exceeds 5 % of the difference. Class-specific; cost
    K forward and backward passes, of ``chunk`` images at a time.

    Sundararajan, Taly & Yan, ICML 2017; computed by captum.
    """

    class_specific: ClassVar[bool] = True
    signed: ClassVar[bool] = True
    formula: ClassVar[str] = "(x - x') mean_k dy/dx(x' + a_k (x - x'))"
    paper: ClassVar[str] = "Sundararajan, Taly & Yan, ICML 2017"

    steps: int = 50
    cell: int = 1
    chunk: int = 16

    def __post_init__(self) -> None:
        for name in ("steps", "cell", "chunk"):
            if getattr(self, name) < 1:
                raise UnsupportedMethodError(f"{name}={getattr(self, name)!r} is not at least 1.")

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return one pass per step, and both ends for the completeness gap."""
        del adapter, size
        return Passes(self.steps + 3, self.steps)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return signed attributions of input pixels, summed over channels."""
        from captum.attr import IntegratedGradients as Captum

        del geometries
        with torch.inference_mode(mode=False), torch.enable_grad():
            inputs = record.inputs.clone()
            attributions, gap = Captum(record.again.scores).attribute(
                inputs,
                baselines=torch.zeros_like(inputs),
                additional_forward_args=(record.indices,),
                n_steps=self.steps,
                internal_batch_size=max(self.chunk, record.batch),
                return_convergence_delta=True,
            )
        values = self._cells(attributions.detach().sum(dim=1))
        share = gap.detach().abs() / values.sum(dim=(1, 2)).sub(gap).abs().clamp(min=1e-12)
        warnings = [
            [f"completeness gap {float(s):.0%}: raise steps above {self.steps}"] if s > GAP else []
            for s in share
        ]
        facts = {"baseline": "zero in normalised space"}
        measured = [{"completeness_gap": float(g)} for g in gap]
        size = (float(self.cell), float(self.cell))
        return Maps(values, size, warnings=warnings, facts=facts, measured=measured)

    def _cells(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return sums over squares of pixels; those at the far edges may be cut."""
        return functional.avg_pool2d(pixels, self.cell, ceil_mode=True, divisor_override=1)
