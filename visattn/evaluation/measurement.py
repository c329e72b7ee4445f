"""Measurement: one evaluation under way, chunk by chunk, continued where another one stopped."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

import visattn
from visattn.adapters import remembered_chains
from visattn.errors import ConfigError, VisattnError
from visattn.evaluation.bench import BATCH, Bench, explained
from visattn.evaluation.case import Case
from visattn.evaluation.datasets import Dataset
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics import Metric, Verdict
from visattn.evaluation.result import NO_NUMBER, UNFIT, Result, Results
from visattn.evaluation.sample import Excluded, Sample
from visattn.evaluation.scorecard import Row, Scorecard, rows_of
from visattn.evaluation.trial import Trial, read_trials
from visattn.images import Size
from visattn.models import Model
from visattn.saliency import SaliencyMap
from visattn.targets import resolve

Spent = npt.NDArray[np.float64]
CHUNK = 8
UNEVEN, CONSTANT, SILENT = "NaN or infinite map", "constant map", "map without signal"


@dataclass
class Measurement:
    """One evaluation under way: what is known, what was found, what does not apply.

    Attributes:
        model: under evaluation.
        dataset: where samples come from.
        metrics: by label.
        specs: of the methods.
        results: values of this run and of earlier ones.
        batch_size: inputs in one forward pass of a metric.
        refusals: why a method or metric does not apply, by both and by size of the input.
        unfit: what has no value because it does not apply to inputs of that size.
    """

    model: Model
    dataset: Dataset
    metrics: Mapping[str, Metric]
    specs: tuple[str, ...]
    results: Results
    batch_size: int = BATCH
    samples: int = 0
    excluded: Counter[str] = field(default_factory=Counter)
    trials: list[Trial] = field(default_factory=list)
    found: list[Result] = field(default_factory=list)
    refusals: dict[tuple[str, str], dict[Size, str]] = field(default_factory=dict)
    unfit: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bench = Bench(self.model, self.batch_size)
        kind = type(self.model.module)
        # Modules of other classes may do other things with the same weights.
        self.network = (
            f"{kind.__module__}.{kind.__qualname__} {self.model.weights_sha256} "
            f"{self.model.dtype} {visattn.__version__}"
        )
        self.examined: set[Size] = set()

    def chunks(self, limit: int | None) -> Iterator[list[Sample]]:
        """Yield samples a few at a time; raises `ConfigError` where there is none."""
        usable = islice(self.usable(), limit)
        while chunk := list(islice(usable, CHUNK)):
            if not self.trials:
                self.trials = read_trials(self.specs, self.model, chunk[0])
            self.samples += len(chunk)
            yield chunk
        if not self.samples:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.excluded.items())
            raise ConfigError(f"The data set has no sample that can be used ({reasons or 'none'}).")

    def usable(self) -> Iterator[Sample]:
        """Yield samples; what the data set leaves out is counted."""
        for each in self.dataset.samples(self.model):
            if isinstance(each, Excluded):
                self.excluded[each.reason] += 1
            else:
                yield each

    def measure(self, samples: Sequence[Sample]) -> None:
        """Measure what is not known yet, one method after another."""
        for size in {sample.size for sample in samples} - self.examined:
            self.examine(size)
        digests = [sample.digest() for sample in samples]
        asked: list[tuple[Trial, list[int], dict[str, list[int]]]] = []
        for trial in self.trials:
            open_ = {label: self.open(trial, label, samples, digests) for label in self.metrics}
            wanted = sorted({index for each in open_.values() for index in each})
            if wanted:
                asked.append((trial, wanted, open_))
        if not asked:
            return
        outputs = list(self.bench.outputs(s.prepared.tensor for s in samples))
        for trial, wanted, open_ in asked:
            cases = self.cases(trial, [samples[i] for i in wanted], [outputs[i] for i in wanted])
            known = dict(zip(wanted, cases, strict=True))
            for label, indices in open_.items():
                keys = [self.key(digests[i], trial, label) for i in indices]
                self.judge(label, trial, [samples[i] for i in indices],
                           [known[i] for i in indices], keys)  # fmt: skip

    def examine(self, size: Size) -> None:
        """Find out once for each size of input what does not apply."""
        self.examined.add(size)
        with remembered_chains():
            for trial in self.trials:
                own = trial.refusal(self.model, size)
                for label, metric in self.metrics.items():
                    reason = own or metric.refusal(self.model, trial, size)
                    if reason:
                        self.refusals.setdefault((trial.label, label), {})[size] = reason

    def open(
        self, trial: Trial, label: str, samples: Sequence[Sample], digests: Sequence[str]
    ) -> list[int]:
        """Return the samples whose value is not known; known ones are taken over.

        Those of a size to which method or metric does not apply are none of both: `unfit`.
        """
        refused = self.refusals.get((trial.label, label), {})
        missing = []
        for index, (sample, digest) in enumerate(zip(samples, digests, strict=True)):
            if sample.size in refused:
                self.unfit.append(
                    Result("", sample.name, sample.group, trial.label, label, reason=UNFIT,
                           detail=refused[sample.size])
                )  # fmt: skip
                continue
            known = self.results.get(self.key(digest, trial, label))
            if known is None:
                missing.append(index)
            else:
                self.found.append(known)
        return missing

    def key(self, digest: str, trial: Trial, label: str) -> str:
        """Return what changes when anything changes that a value depends on."""
        metric = self.metrics[label]
        method = (trial.method, sorted(trial.build().options().items()))
        own = (type(metric).__name__, sorted(metric.options().items()))
        text = repr((digest, self.network, trial.label, method, label, own))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def cases(
        self, trial: Trial, samples: Sequence[Sample], outputs: Sequence[torch.Tensor]
    ) -> list[_Judged]:
        """Return the case of each sample, or why it has none."""
        start = time.perf_counter()
        maps = explained(
            self.model, [s.prepared for s in samples], trial, [s.target for s in samples]
        )
        seconds = (time.perf_counter() - start) / len(samples)
        judged = []
        for sample, output, found in zip(samples, outputs, maps, strict=True):
            fault, case = fault_of(found), None
            if fault is None and isinstance(found, SaliencyMap):
                (resolved,) = resolve([sample.target], self.model, output)
                case = Case(sample, trial, found, output, resolved)
            judged.append(_Judged(case, fault, seconds))
        return judged

    def judge(
        self,
        label: str,
        trial: Trial,
        samples: Sequence[Sample],
        judged: Sequence[_Judged],
        keys: Sequence[str],
    ) -> None:
        """Measure one metric on some cases and keep what comes out."""
        metric = self.metrics[label]
        lacking = [metric.lacks(sample) for sample in samples]
        faults = [
            Excluded(lack) if lack else each.fault
            for lack, each in zip(lacking, judged, strict=True)
        ]
        pairs = zip(judged, faults, strict=True)
        cases = [each.case for each, fault in pairs if fault is None and each.case is not None]
        before = _spent(self.bench)
        measured = metric.measure(self.bench, cases) if cases else []
        cost = (_spent(self.bench) - before) / max(len(cases), 1)
        if len(measured) != len(cases):
            raise TypeError(f"{label} said {len(measured)} things of {len(cases)} maps.")
        open_ = iter(measured)
        lines = []
        for sample, each, fault, key in zip(samples, judged, faults, keys, strict=True):
            names = (key, sample.name, sample.group, trial.label, label)
            found = next(open_) if fault is None else fault
            lines.append(_result(names, found, cost * (fault is None), each.seconds))
        self.results.add(lines)
        self.found += lines

    def refused(self, label: str) -> dict[str, str]:
        """Return why methods have no value at all of a metric: it applies to no size of input."""
        return {
            name: next(iter(reasons.values()))
            for (name, own), reasons in self.refusals.items()
            if own == label and self.examined <= reasons.keys()
        }

    def scorecard(self, seed: int) -> Scorecard:
        """Return what was found, with intervals from resamples of ``seed``."""
        rows: list[Row] = []
        for label, metric in self.metrics.items():
            by_method: dict[str, list[Result]] = {}
            refused = self.refused(label)
            for each in (*self.found, *self.unfit):
                if each.metric == label and each.method not in refused:
                    by_method.setdefault(each.method, []).append(each)
            rows += rows_of(label, metric, self.trials, by_method, refused, seed)
        facts = {
            "model": self.model.facts(),
            "dataset": {"name": type(self.dataset).__name__, **self.dataset.facts()},
            "visattn": visattn.__version__,
            "seed": seed,
        }
        return Scorecard(tuple(rows), dict(self.metrics), facts, dict(self.excluded), self.samples)


@dataclass(frozen=True, eq=False)
class _Judged:
    """A case, or why there is none, and the seconds that its map took."""

    case: Case | None
    fault: Excluded | None
    seconds: float


def fault_of(found: SaliencyMap | VisattnError) -> Excluded | None:
    """Return why a map cannot be judged, or None."""
    if isinstance(found, VisattnError):
        return Excluded(f"no map: {type(found).__name__}", detail=str(found))
    if found.no_signal is None:
        return None
    if not np.isfinite(found.grid).all():
        return Excluded(UNEVEN, detail=found.no_signal)
    return Excluded(SILENT if found.silence else CONSTANT, detail=found.no_signal)


def _spent(bench: Bench) -> Spent:
    return np.array([bench.passes, bench.explanations, time.perf_counter(), bench.seconds])


def _result(
    names: tuple[str, str, str, str, str], found: Verdict, cost: Spent, mapping: float
) -> Result:
    """Return what a metric said of a map; ``names`` are the first fields of the result."""
    passes, explanations, seconds, inside = map(float, cost)
    price = (passes, explanations, seconds, inside, mapping)
    if isinstance(found, Measured):
        if np.isfinite([found.value, found.chance or 0, *found.parts]).all():
            return Result(*names, found.value, found.chance, found.parts, None, None, *price)
        found = Excluded(NO_NUMBER, detail=repr(found))
    return Result(*names, None, None, (), found.reason, found.detail, *price)
