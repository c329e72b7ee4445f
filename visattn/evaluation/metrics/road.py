"""ROAD, remove and debias (Rong et al., ICML 2022), in both orders and combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import LOWER, Verdict
from visattn.evaluation.metrics.perturbation import Perturbation, fractions_of
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import NOTHING, Band, Path, least, most

TENTHS = tuple(part / 10 for part in range(1, 10))


@dataclass(frozen=True)
class RoadOrder(Perturbation):
    """Scores without fractions of the units, imputed from what is left.

    ``fractions`` are the fractions removed, 0.1 to 0.9 by default. (pytorch-grad-cam counts
    percentiles, of which p removes the top 100 - p percent.)
    """

    fill: str = "linear"
    fractions: Any = TENTHS

    def __post_init__(self) -> None:
        super().__post_init__()
        fractions_of(self.fractions)

    def change(self, path: Path, bands: Sequence[Band]) -> float:
        """Return the mean change of the score over bands."""
        before = self.along(path, [NOTHING])[0]
        return float((self.along(path, bands) - before).mean())

    def most(self) -> list[Band]:
        """Return the most relevant units, for each fraction."""
        return [most(fraction) for fraction in fractions_of(self.fractions)]

    def least(self) -> list[Band]:
        """Return the least relevant units, for each fraction."""
        return [least(fraction) for fraction in fractions_of(self.fractions)]


@METRICS.register("road_morf")
@dataclass(frozen=True)
class RoadMorf(RoadOrder):
    """Mean change of the score without the most relevant units, noisy linear imputation.

    ``mean_p y(most relevant p removed) - y`` over the ``fractions`` p removed. One forward pass and
    one sparse linear system for each.

    Rong et al., ICML 2022, who report accuracy; the change of the score is pytorch-grad-cam's. By
    default whole patches, see `Perturbation`.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "that of a random map on the same samples"
    formula: ClassVar[str] = "mean_p y(most relevant p imputed) - y"
    paper: ClassVar[str] = "Rong et al., ICML 2022"

    def bands(self) -> Sequence[Band]:
        """Return the most relevant units, for each fraction."""
        return self.most()

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the mean change."""
        del case
        return Measured(self.change(path, self.most()))


@METRICS.register("road_lerf")
@dataclass(frozen=True)
class RoadLerf(RoadOrder):
    """Mean change of the score without the least relevant units; see `RoadMorf`.

    Rong et al., ICML 2022.
    """

    chance: ClassVar[str] = "that of a random map on the same samples"
    formula: ClassVar[str] = "mean_p y(least relevant p imputed) - y"
    paper: ClassVar[str] = "Rong et al., ICML 2022"

    def bands(self) -> Sequence[Band]:
        """Return the least relevant units, for each fraction."""
        return self.least()

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return the mean change."""
        del case
        return Measured(self.change(path, self.least()))


@METRICS.register("road")
@dataclass(frozen=True)
class Road(RoadOrder):
    """Half of what the score loses more without the most than without the least relevant units.

    ``mean_p (y(least relevant p removed) - y(most relevant p removed)) / 2``. Two forward passes
    and linear systems for each of the ``fractions``; shared with `road_morf` and `road_lerf`. A map
    and its negative have opposite values.

    Rong et al., ICML 2022, combined as pytorch-grad-cam does.
    """

    chance: ClassVar[str] = "0"
    formula: ClassVar[str] = "mean_p (y(least relevant p imputed) - y(most relevant p imputed)) / 2"
    paper: ClassVar[str] = "Rong et al., ICML 2022"

    def bands(self) -> Sequence[Band]:
        """Return the most and the least relevant units, for each fraction."""
        return [*self.most(), *self.least()]

    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return half of the difference of both changes."""
        del case
        gain = self.change(path, self.least()) - self.change(path, self.most())
        return Measured(gain / 2, 0.0)
