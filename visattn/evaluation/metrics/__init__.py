"""Metrics: one file each, from maps of samples to numbers."""

from __future__ import annotations

from visattn.evaluation.metrics.metric import HIGHER, LOWER, NEITHER, Cost, Metric, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.spec import parsed

__all__ = [
    "HIGHER",
    "LOWER",
    "METRICS",
    "NEITHER",
    "Cost",
    "Metric",
    "Verdict",
    "list_metrics",
    "read_metric",
]


def list_metrics() -> list[str]:
    """Return the names of all metrics, sorted."""
    return list(METRICS.names())


def read_metric(text: str) -> tuple[str, Metric]:
    """Return label and metric of a spec such as ``deletion:steps=8``; raises `ConfigError`."""
    name, options = parsed(text)
    metric = METRICS.get(name).create(name, options)
    return metric.label(name), metric
