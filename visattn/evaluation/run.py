"""evaluate: a data set, a model, methods and metrics in, a scorecard out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from visattn.errors import ConfigError
from visattn.evaluation.bench import BATCH
from visattn.evaluation.datasets import Dataset, open_dataset
from visattn.evaluation.measurement import Measurement
from visattn.evaluation.metrics import Metric, read_metric
from visattn.evaluation.result import Results
from visattn.evaluation.scorecard import Scorecard
from visattn.models import Model

Report = Callable[[int, int], None]


def evaluate(
    model: Model,
    dataset: Dataset | str,
    methods: Sequence[str],
    metrics: Sequence[str],
    *,
    results: Path | None = None,
    limit: int | None = None,
    batch_size: int = BATCH,
    seed: int = 0,
    progress: Report | None = None,
) -> Scorecard:
    """Measure methods on a data set, with controls, and return the scorecard.

    Args:
        model: from `visattn.load_model`.
        dataset: a data set, or the spec of one as `visattn.evaluation.open_dataset` takes.
        methods: names, with options as in ``gae:start_layer=3``; ``auto``; ``all`` are all that
            apply. The controls `CONTROLS` are added where they apply.
        metrics: names, with options as in ``deletion:score=logit``.
        results: file of lines that keeps every value; what it holds already for the same sample,
            weights, method, metric and version of visattn is not measured again.
        limit: only the first samples.
        batch_size: inputs in one forward pass of a metric.
        seed: of the bootstrap.
        progress: called with the numbers of samples and of values so far.

    Raises:
        ConfigError: a spec is wrong, a metric needs what the data set does not have, or the data
            set has no sample that can be used.
        UnsupportedMethodError: a method or one of its options does not exist.
    """
    if batch_size < 1 or (limit is not None and limit < 1):
        raise ConfigError(f"batch_size={batch_size!r}, limit={limit!r}: both are at least 1.")
    opened = open_dataset(dataset) if isinstance(dataset, str) else dataset
    run = Measurement(
        model, opened, read_metrics(metrics, opened), tuple(methods), Results(results), batch_size
    )
    for samples in run.chunks(limit):
        run.measure(samples)
        if progress is not None:
            progress(run.samples, len(run.found))
    return run.scorecard(seed)


def read_metrics(specs: Sequence[str], dataset: Dataset) -> dict[str, Metric]:
    """Return metrics by label; raises `ConfigError` where the data set cannot serve one."""
    if not specs:
        raise ConfigError("No metric was given; see visattn.evaluation.list_metrics().")
    found = dict(read_metric(spec) for spec in specs)
    for label, metric in found.items():
        missing = [need for need in metric.required() if need not in dataset.known()]
        if missing:
            raise ConfigError(
                f"{label} needs {', '.join(missing)}, which {type(dataset).__name__} does not have "
                f"(it has {', '.join(dataset.known()) or 'images alone'})."
            )
    return found
