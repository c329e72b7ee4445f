"""Gradient of the score by the pixels (Simonyan, Vedaldi & Zisserman, ICLR workshop 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.adapters import Adapter
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.method import Maps, Passes
from visattn.methods.pixels import (
    REDUCTIONS,
    PixelMap,
    Scores,
    differentiable,
    reduced,
    require_choice,
)
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord


@METHODS.register("saliency")
@dataclass(frozen=True)
class Saliency(PixelMap):
    """Absolute gradient of the score by every pixel.

    ``m = max_channels |dy/dx|`` in units of the score per unit of normalised input, >= 0;
    ``channels`` is ``max`` as in the paper, ``mean`` or ``sum``. Pixels are summed over squares of
    ``cell`` by ``cell``, by default the model's patches; 1 keeps the pixels. It says how sensitive
    the score is, not what it is made of. Class-specific; one forward and one backward pass.

    Simonyan, Vedaldi & Zisserman, ICLR workshop 2014; computed by captum.
    """

    formula: ClassVar[str] = "max_c |dy/dx_c|"
    paper: ClassVar[str] = "Simonyan, Vedaldi & Zisserman, ICLR workshop 2014"

    channels: str = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "channels", tuple(REDUCTIONS))

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return the shared pass and captum's own."""
        del adapter, size
        return Passes(2, 1)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return sensitivities of input pixels."""
        from captum.attr import Saliency as Captum

        del geometries
        with differentiable(record) as inputs:
            found = Captum(Scores(record)).attribute(
                inputs, additional_forward_args=(record.indices,)
            )
        return self.maps(record, reduced(found, self.channels))
