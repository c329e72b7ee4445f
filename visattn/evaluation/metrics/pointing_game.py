"""Pointing game: does the highest cell of the map lie on the evidence?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from visattn.errors import ConfigError
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.located import Located
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.pointing import pointing_game
from visattn.evaluation.sample import EVIDENCE, Sample
from visattn.saliency import SaliencyMap


@METRICS.register("pointing_game")
@dataclass(frozen=True)
class PointingGame(Located):
    """1 where the highest cell hits the mask, 0 elsewhere, ties by their share.

    See `pointing.pointing_game`.

    Attributes:
        tolerance: pixels of the photo within which the centre of the highest cell must lie from the
            mask, 15 in the paper; None asks for a cell that touches the mask, and in mosaics, whose
            tiles share their edges, for one whose centre lies in the tile.

    Zhang et al., ECCV 2016; the mean is over samples, there over classes.
    """

    chance: ClassVar[str] = "share of cells that hit"
    rank_only: ClassVar[bool] = True
    formula: ClassVar[str] = "argmax m in mask"
    paper: ClassVar[str] = "Zhang et al., ECCV 2016"

    tolerance: float | None = None

    def __post_init__(self) -> None:
        value = self.tolerance
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (number and value >= 0):
            raise ConfigError(f"tolerance={value!r} is not a number of pixels, at least 0.")

    def judged(self, found: SaliencyMap, sample: Sample) -> Measured:
        """Return whether the highest cell hits the evidence."""
        straddles = self.tolerance is None and sample.tile is not None
        tolerance = 0.0 if straddles else self.tolerance
        return pointing_game(found, sample.masks[EVIDENCE], tolerance)
