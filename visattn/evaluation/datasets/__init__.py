"""Data sets: one file each, samples with what is known about them."""

from __future__ import annotations

from visattn.evaluation.datasets.dataset import Dataset
from visattn.evaluation.datasets.opening import open_dataset
from visattn.evaluation.datasets.registry import DATASETS

__all__ = ["DATASETS", "Dataset", "list_datasets", "open_dataset"]


def list_datasets() -> list[str]:
    """Return the names of all data sets, sorted."""
    return list(DATASETS.names())
