"""What metrics share that remove units of the input in the order of the map."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from visattn.errors import ConfigError
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import PROBABILITY, SCORES, Case
from visattn.evaluation.metrics.metric import Cost, Metric, Values, Verdict
from visattn.evaluation.removal import ALL, NOTHING, Band, Path, Removal, paths
from visattn.evaluation.replacements import REPLACEMENTS
from visattn.evaluation.sample import Excluded
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.models import Model
from visattn.options import require_at_least, require_choice

TOKENS = "tokens"


@dataclass(frozen=True)
class Perturbation(Metric):
    """Scores of inputs without some units, chosen by their place in the order of the map.

    Units are what the model sees as a whole (``unit=None``: patches of transformers, squares of
    about 1/14 of the shorter side else), because half a removed patch is nothing that a patch
    embedding knows, and because a map of tokens cannot tell pixels of a patch apart; ``unit=1``
    removes pixels, as most papers do. A unit's relevance is the mean of the map over it: of the
    map's own cells where the unit consists of such, else of the bilinear map. Ties are broken at
    random, patch by patch, from the sample's name and ``seed``.

    Only the order counts, as long as units are cells of the map: a mean over several cells, or over
    interpolated ones, may change its place when the map is raised to a power.

    Attributes:
        fill: what stands in the place of what is removed, a name of
            `visattn.evaluation.replacements`.
        score: ``logit`` or ``probability``, see `Case.scores`.
        unit: side of a unit in pixels; None: the model's own.
        seed: of ties and noise.
    """

    rank_only: ClassVar[bool] = True

    fill: str = "mean"
    score: str = PROBABILITY
    unit: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("fill", self.fill, REPLACEMENTS.names())
        require_choice("score", self.score, SCORES)
        whole = isinstance(self.unit, int) and not isinstance(self.unit, bool)
        if self.unit is not None and (not whole or self.unit < 1):
            raise ConfigError(f"unit={self.unit!r} is no number of pixels, at least 1.")
        if self.fill == TOKENS and self.unit is not None:
            raise ConfigError("fill=tokens removes the model's own patches: leave unit out.")

    @property
    def removal(self) -> Removal:
        """How units are removed."""
        return Removal(self.fill, self.unit, self.seed)

    @abstractmethod
    def bands(self) -> Sequence[Band]:
        """Return which units are removed, of each variant."""

    @abstractmethod
    def verdict(self, case: Case, path: Path) -> Verdict:
        """Return what a case gets, given what was read at each band and `NOTHING`."""

    def cost(self) -> Cost:
        """Return one forward pass for each variant; fewer where another metric has run them."""
        return Cost(len(set(self.bands()) - {NOTHING}))

    def refusal(self, model: Model, trial: Trial, size: Size) -> str | None:
        """Return why units cannot be removed from inputs of ``size``, or None."""
        del trial
        if self.unit is not None and self.unit > min(size):
            return f"unit={self.unit} is larger than the input of {size.height} x {size.width}"
        return self.removal.replacement.refusal(model, size, ALL in self.bands())

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return what each case gets."""
        found = paths(bench, cases, self.removal, self.bands())
        return [
            path if isinstance(path, Excluded) else self.verdict(case, path)
            for case, path in zip(cases, found, strict=True)
        ]

    def along(self, path: Path, bands: Sequence[Band]) -> Values:
        """Return the scores (band,)."""
        return np.array([getattr(path.readings[band], self.score) for band in bands])


def shares_of(steps: int) -> list[Fraction]:
    """Return 0, 1 / steps, ..., 1; raises `ConfigError` below one step."""
    require_at_least("steps", steps, 1)
    return [Fraction(step, steps) for step in range(steps + 1)]


def fractions_of(given: Any) -> list[Fraction]:
    """Return fractions of units as they were written; raises `ConfigError` outside 0..1."""
    return list(_fractions(given if isinstance(given, (tuple, list)) else (given,)))


def area(scores: Values) -> float:
    """Return ``(sum_k y_k - y_0 / 2 - y_K / 2) / K``, the mean height of K + 1 points (point,)."""
    return float(np.trapezoid(scores) / (len(scores) - 1))


def _fractions(given: Sequence[Any]) -> Iterator[Fraction]:
    if not given:
        raise ConfigError("fractions is empty.")
    for each in given:
        number = isinstance(each, (int, float)) and not isinstance(each, bool)
        if not number or not 0 < each <= 1:
            raise ConfigError(f"fractions: {each!r} is not above 0 and at most 1.")
        yield Fraction(str(each))
