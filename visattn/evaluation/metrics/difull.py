"""DiFull: the share of a map's mass in the only tile that the score can depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.errors import VisattnError
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.difull import disconnected, refusal
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.grid_pointing import require_kernel
from visattn.evaluation.metrics.metric import TILE, Cost, Metric, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.mosaic import grid_pointing
from visattn.evaluation.sample import Excluded
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.models import Model
from visattn.saliency import SaliencyMap

LAYERED = "it names a layer of the connected network"


@dataclass(frozen=True)
class _Cell:
    """Which head: number of the tile and tiles in a row."""

    tile: int
    side: int


@METRICS.register("difull")
@dataclass(frozen=True)
class DiFull(Metric):
    """``sum_tile m^+ / sum m^+`` of the map of a network that provably sees the tile alone.

    The network is cut apart at the tiles (`visattn.evaluation.difull`) and explained anew by the
    same method with the same target: the head of a tile reads features that were computed of that
    tile alone, so that all attribution elsewhere is wrong. The share is that of `grid_pointing`,
    but of cells as they are: spread bilinear, those at a tile's edge would reach over it. Gradients
    by the input score 1 where whole cells fit into a tile, a little less where some lie on two. For
    convolutional networks only.

    Attributes:
        smooth: as of `grid_pointing`; smoothing leaks over the edge of a tile.

    Rao, Boehle & Schiele, CVPR 2022.
    """

    chance: ClassVar[str] = "1 / number of tiles"
    needs: ClassVar[tuple[str, ...]] = (TILE,)
    formula: ClassVar[str] = "sum_tile m^+ / sum m^+, head k of features of tile k alone"
    paper: ClassVar[str] = "Rao, Boehle & Schiele, CVPR 2022"

    smooth: int = 0

    def __post_init__(self) -> None:
        require_kernel(self.smooth)

    def cost(self) -> Cost:
        """Return the one map of the network that is cut apart."""
        return Cost(explanations=1)

    def refusal(self, model: Model, trial: Trial, size: Size) -> str | None:
        """Return why the network cannot be cut apart, or the method not be asked again."""
        del size
        layered = trial.options.get("layer") is not None
        return refusal(model) or (LAYERED if layered else None)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the share of each new map in its tile; one explanation for each case."""
        cells = [_Cell(*(case.sample.tile or (0, 1))) for case in cases]
        verdicts: dict[int, Verdict] = {}
        for cell in dict.fromkeys(cells):
            own = [place for place, each in enumerate(cells) if each == cell]
            maps = bench.explain(
                [cases[place].sample.prepared for place in own],
                cases[0].trial,
                [cases[place].sample.target for place in own],
                disconnected(bench.model, cell.tile, cell.side),
            )
            for place, found in zip(own, maps, strict=True):
                verdicts[place] = self._share(found, cell)
        return [verdicts[place] for place in range(len(cases))]

    def _share(self, found: SaliencyMap | VisattnError, cell: _Cell) -> Verdict:
        if isinstance(found, VisattnError):
            return Excluded(f"{type(found).__name__} on the network that is cut apart")
        if found.no_signal:
            return Excluded("map without signal of the network that is cut apart")
        share = grid_pointing(found, cell.tile, cell.side, self.smooth, "nearest")
        return Measured(share, 1 / cell.side**2)
