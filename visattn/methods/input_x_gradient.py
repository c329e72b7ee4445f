"""Input times gradient (Shrikumar et al., 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visattn.adapters import Adapter
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.method import Maps, Passes
from visattn.methods.pixels import PixelMap, Scores, differentiable, reduced
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord


@METHODS.register("input_x_gradient")
@dataclass(frozen=True)
class InputXGradient(PixelMap):
    """Every pixel times the gradient of the score by it.

    ``m = sum_channels x * dy/dx``, signed, in units of the score: the contributions of a linear
    model, compared with the colour that is zero in normalised space. Pixels are summed over
    squares of ``cell`` by ``cell``, by default the model's patches; 1 keeps the pixels.
    Class-specific; one forward and one backward pass.

    Shrikumar, Greenside, Shcherbina & Kundaje, arXiv 2016; computed by captum.
    """

    signed: ClassVar[bool] = True
    formula: ClassVar[str] = "sum_c x_c dy/dx_c"
    paper: ClassVar[str] = "Shrikumar et al., arXiv 2016"

    @property
    def additive(self) -> bool:
        """Attributions share out the score of a linear model."""
        return True

    @property
    def origin(self) -> Any:
        """Zero in normalised space."""
        return "mean"

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return the shared pass and captum's own."""
        del adapter, size
        return Passes(2, 1)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return signed attributions of input pixels, summed over channels."""
        from captum.attr import InputXGradient as Captum

        del geometries
        with differentiable(record) as inputs:
            found = Captum(Scores(record)).attribute(
                inputs, additional_forward_args=(record.indices,)
            )
        return self.maps(record, reduced(found, "sum"))
