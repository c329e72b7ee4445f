"""Grid pointing game: the share of the map's mass that lies in the tile of its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.errors import ConfigError
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import TILE, Metric, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.mosaic import grid_pointing


@METRICS.register("grid_pointing")
@dataclass(frozen=True)
class GridPointing(Metric):
    """``sum_tile m^+ / sum m^+`` on the model's input; see `mosaic.grid_pointing`.

    A map without positive values scores 0, as published. Maps of gradients gain by smoothing:
    report both.

    Attributes:
        smooth: side of the Gaussian kernel in pixels of the input, odd; 0 leaves the map as it is.

    Boehle, Fritz & Schiele, CVPR 2021; Rao, Boehle & Schiele, CVPR 2022.
    """

    chance: ClassVar[str] = "1 / number of tiles"
    needs: ClassVar[tuple[str, ...]] = (TILE,)
    formula: ClassVar[str] = "sum_tile m^+ / sum m^+"
    paper: ClassVar[str] = "Boehle, Fritz & Schiele, CVPR 2021"

    smooth: int = 0

    def __post_init__(self) -> None:
        require_kernel(self.smooth)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the share of each map's positive mass in its tile."""
        del bench
        return [self._share(case) for case in cases]

    def _share(self, case: Case) -> Measured:
        tile, side = case.sample.tile or (0, 1)
        return Measured(grid_pointing(case.found, tile, side, self.smooth), 1 / side**2)


def require_kernel(smooth: int) -> None:
    """Raise `ConfigError` where a kernel has no pixel in its middle; 0 is no kernel."""
    if smooth and (smooth < 0 or smooth % 2 == 0):
        raise ConfigError(f"smooth={smooth!r} is neither 0 nor an odd number of pixels.")
