"""Max-sensitivity: how far does a map move when the input hardly does?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics.comparison import first_excluded
from visattn.evaluation.metrics.metric import LOWER, Cost, Metric, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.rerun import Further, Wanted, kept_target, rerun
from visattn.evaluation.sample import Excluded
from visattn.evaluation.seeding import torch_generator
from visattn.models import Model
from visattn.options import require_at_least


@METRICS.register("max_sensitivity")
@dataclass(frozen=True)
class MaxSensitivity(Metric):
    """Largest relative change of a map over small random changes of the input.

    ``max_k ||m(x + d_k) - m(x)||_2 / ||m(x)||_2`` with every value of d_k uniform in -radius to
    radius, of raw maps. The explained class stays. Methods that draw random numbers draw them anew
    for each changed input, so their own noise counts.

    Attributes:
        radius: largest change of a value of the input, in units of the normalised input.
        samples: how many changes, k.
        average: whether the mean over k is taken instead of the maximum (average sensitivity).
        seed: of the changes; with the sample's name it says which.
    """

    better: ClassVar[str] = LOWER
    chance: ClassVar[str] = "0 for what ignores the input"
    formula: ClassVar[str] = "max_k ||m(x + d_k) - m(x)|| / ||m(x)||, |d_k| <= radius"
    paper: ClassVar[str] = "Yeh et al., NeurIPS 2019"

    radius: float = 0.02
    samples: int = 10
    average: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least("radius", self.radius, 0.0)
        require_at_least("samples", self.samples, 1)

    def cost(self) -> Cost:
        """Return one map for each change."""
        return Cost(explanations=self.samples)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the largest, or mean, relative change for each case."""
        found = rerun(bench, self._wanted(bench.model, cases))
        return [self._verdict(case, [next(found) for _ in range(self.samples)]) for case in cases]

    def changes(self, case: Case) -> Iterator[torch.Tensor]:
        """Yield the changes (channel, row, col) of a case's input."""
        generator = torch_generator(case.sample.name, self.seed)
        for _ in range(self.samples):
            drawn = torch.rand(case.tensor.shape, generator=generator)
            yield (2 * drawn - 1) * self.radius

    def _wanted(self, model: Model, cases: Sequence[Case]) -> Iterator[Wanted]:
        for case in cases:
            for change in self.changes(case):
                changed = model.prepare_tensor(case.tensor.float() + change)
                yield case, changed, kept_target(case)

    def _verdict(self, case: Case, maps: Sequence[Further]) -> Verdict:
        missing = first_excluded(maps)
        if missing is not None:
            return missing
        own = case.found.grid.astype(np.float64)
        moved = [
            float(np.linalg.norm(found.grid - own) / np.linalg.norm(own))
            for found in maps
            if not isinstance(found, Excluded)
        ]
        return Measured(float(np.mean(moved) if self.average else np.max(moved)))
