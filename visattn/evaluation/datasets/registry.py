"""The registry of data sets."""

from __future__ import annotations

from visattn.errors import ConfigError
from visattn.evaluation.datasets.dataset import Dataset
from visattn.registry import Registry

DATASETS: Registry[type[Dataset]] = Registry("data set", "visattn.evaluation.datasets", ConfigError)
