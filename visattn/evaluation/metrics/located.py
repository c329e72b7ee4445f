"""Located: what metrics share that compare a map with a mask of the evidence."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.localization import unfit
from visattn.evaluation.metrics.metric import Metric, Verdict
from visattn.evaluation.sample import EVIDENCE, Excluded, Sample
from visattn.saliency import SaliencyMap


@dataclass(frozen=True)
class Located(Metric):
    """A metric of a map and masks of the photo, all those that it `needs`.

    A mask that is empty, that the model saw nothing of, or that is all the model saw, says nothing
    about where a map lies: `localization.unfit` excludes it by name.
    """

    needs: ClassVar[tuple[str, ...]] = (EVIDENCE,)

    @abstractmethod
    def judged(self, found: SaliencyMap, sample: Sample) -> Verdict:
        """Return what a map gets; the masks are fit."""

    def verdict(self, found: SaliencyMap, sample: Sample) -> Verdict:
        """Return what a map gets, or why its masks do not say."""
        for name in self.needs:
            reason = unfit(found, sample.masks[name])
            if reason:
                return Excluded(reason if name == EVIDENCE else f"{name}: {reason}")
        return self.judged(found, sample)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the verdict of each case; nothing runs."""
        del bench
        return [self.verdict(case.found, case.sample) for case in cases]
