"""The registry of metrics."""

from __future__ import annotations

from visattn.errors import ConfigError
from visattn.evaluation.metrics.metric import Metric
from visattn.registry import Registry

METRICS: Registry[type[Metric]] = Registry("metric", "visattn.evaluation.metrics", ConfigError)
