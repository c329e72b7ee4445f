"""Infidelity (Yeh et al., NeurIPS 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from visattn.errors import ConfigError
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import LOGIT, SCORES, Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.metric import LOWER, Cost, Metric, Values, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.removal import NOT_FINITE
from visattn.evaluation.replacements import REPLACEMENTS, Substitute
from visattn.evaluation.sample import Excluded
from visattn.evaluation.seeding import generator
from visattn.evaluation.trial import Trial
from visattn.evaluation.units import Units
from visattn.images import Size
from visattn.methods.baseline import described
from visattn.models import Model
from visattn.options import require_at_least, require_choice

SQUARE, NOISE = PERTURBATIONS = ("square", "noise")
NO_CELLS = "the map's cells are no whole pixels of the input"


@METRICS.register("infidelity")
@dataclass(frozen=True)
class Infidelity(Metric):
    """How far a map is from saying by how much a perturbation changes the score.

    ``mean_e (sum_c e_c m_c - (f(x) - f(x - I_e)))^2`` over K = ``samples`` perturbations ``I_e =
    e_c (x - x')`` at the pixels of cell c of the map's own grid, x' the ``fill``: e_c is the part
    of cell c that is removed, which is exact for a linear f and its contributions, whatever the
    cells. ``square``: 1 in a random square of cells (side up to half of the shorter side), 0
    elsewhere; ``noise``: Gaussian of standard deviation ``sigma``. For pixels this is Yeh's
    ``<I, Phi>`` with contributions ``m = (x - x') Phi``, as in captum. In squared units of the
    score; 0 is perfect. K forward passes.

    Only for maps that share out the score (`Method.additive`) from the same baseline. With
    ``normalize`` every map is first scaled by the factor that makes its infidelity least (captum's
    ``normalize``), and any method will do.

    Yeh, Hsieh, Suggala, Inouye & Ravikumar, NeurIPS 2019.

    Attributes:
        fill: ``mean``, ``black``, ``image_mean`` or ``blur``.
        score: ``logit`` or ``probability``, what f is.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "that of a map of zeros: mean (f(x) - f(x - I))^2"
    formula: ClassVar[str] = "mean_e (sum_c e_c m_c - (f(x) - f(x - I_e)))^2"
    paper: ClassVar[str] = "Yeh et al., NeurIPS 2019"

    fill: str = "mean"
    score: str = LOGIT
    perturbation: str = SQUARE
    samples: int = 50
    sigma: float = 0.2
    normalize: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not issubclass(REPLACEMENTS.get(self.fill), Substitute):
            raise ConfigError(f"fill={self.fill!r} is no fixed baseline: use mean, black or blur.")
        require_choice("score", self.score, SCORES)
        require_choice("perturbation", self.perturbation, PERTURBATIONS)
        require_at_least("samples", self.samples, 1)
        if not self.sigma > 0:
            raise ConfigError(f"sigma={self.sigma!r} is not above 0.")

    @property
    def substitute(self) -> Substitute:
        """The baseline."""
        found = REPLACEMENTS.get(self.fill)(self.seed)
        assert isinstance(found, Substitute)  # noqa: S101  refused before
        return found

    def cost(self) -> Cost:
        """Return one forward pass for each perturbation."""
        return Cost(self.samples)

    def refusal(self, model: Model, trial: Trial, size: Size) -> str | None:
        """Return why the map's values are no parts of the score, or None."""
        method = trial.build()
        if self.normalize:
            return self.substitute.refusal(model, size)
        if not method.additive:
            return (
                f"{trial.method} does not share out the score over cells, in units of the score; "
                "normalize=True scales any map to fit"
            )
        if method.origin is not None and not _same(method.origin, self.fill):
            return (
                f"{trial.method} counts from a baseline ({described(method.origin)}) that is not "
                f"fill={self.fill}"
            )
        return self.substitute.refusal(model, size)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the infidelity of each case."""
        cells = [Units.cells(case.found.geometry) for case in cases]
        known = [(c, u) for c, u in zip(cases, cells, strict=True) if u is not None]
        outputs = bench.outputs(
            x for case, units in known for x in self._inputs(bench, case, units)
        )
        return [
            Excluded(NO_CELLS) if units is None else self._verdict(case, units, outputs)
            for case, units in zip(cases, cells, strict=True)
        ]

    def draws(self, name: str, units: Units) -> Iterator[Values]:
        """Yield which part of each cell (cell,) is removed, for the sample called ``name``."""
        random = generator(name, self.seed)
        for _ in range(self.samples):
            if self.perturbation == NOISE:
                yield self.sigma * random.standard_normal(units.count)
            else:
                yield _square(units.shape, random)

    def _inputs(self, bench: Bench, case: Case, units: Units) -> Iterator[torch.Tensor]:
        instead = self.substitute.substitute(bench.model, case.sample)
        for parts in self.draws(case.sample.name, units):
            weight = torch.from_numpy(units.spread(parts)).to(case.tensor)
            yield torch.lerp(case.tensor, instead.expand_as(case.tensor), weight)

    def _verdict(self, case: Case, units: Units, outputs: Iterator[torch.Tensor]) -> Verdict:
        shares = case.found.grid.ravel().astype(np.float64)
        said = np.array([parts @ shares for parts in self.draws(case.sample.name, units)])
        after = [float(case.scores(next(outputs), self.score)) for _ in range(self.samples)]
        changed = float(case.scores(case.output, self.score)) - np.array(after)
        if not np.isfinite(changed).all():
            return Excluded(NOT_FINITE)
        if self.normalize and said.any():
            said = said * (said @ changed) / (said @ said)
        return Measured(float(((said - changed) ** 2).mean()), float((changed**2).mean()))


def _square(shape: Size, random: np.random.Generator) -> Values:
    """Return 1 in a random square of cells, 0 elsewhere (cell,)."""
    side = int(random.integers(1, max(1, min(shape) // 2) + 1))
    top, left = (int(random.integers(extent - side + 1)) for extent in shape)
    parts = np.zeros(shape)
    parts[top : top + side, left : left + side] = 1
    return parts.ravel()


def _same(origin: object, fill: str) -> bool:
    """Return whether a method's baseline is a fill; its blur depends on the size and is another."""
    return isinstance(origin, str) and origin == fill and fill != "blur"
