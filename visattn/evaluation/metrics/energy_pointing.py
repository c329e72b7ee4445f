"""Energy pointing game: the share of the map's mass that lies on the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.localization import energy_pointing
from visattn.evaluation.metrics.metric import Metric, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.sample import EVIDENCE


@METRICS.register("energy_pointing")
@dataclass(frozen=True)
class EnergyPointing(Metric):
    """``sum_mask m^+ / sum m^+`` on the upright photo; see `localization.energy_pointing`."""

    chance: ClassVar[str] = "area of the mask"
    needs: ClassVar[tuple[str, ...]] = (EVIDENCE,)
    formula: ClassVar[str] = "sum_mask m^+ / sum m^+"
    paper: ClassVar[str] = "Wang et al., CVPR workshops 2020"

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the share of each map's positive mass on the evidence."""
        del bench
        return [energy_pointing(case.found, case.sample.masks[EVIDENCE]) for case in cases]
