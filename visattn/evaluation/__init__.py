"""Evaluation: does a map tell the truth? Metrics, data sets, controls and scorecards."""

from __future__ import annotations

from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.chart import chart
from visattn.evaluation.config import EvaluationConfig
from visattn.evaluation.datasets import DATASETS, Dataset, list_datasets, open_dataset
from visattn.evaluation.difficulty import LEVELS, Difficulty
from visattn.evaluation.folder import evaluate_to
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics import METRICS, Metric, list_metrics, read_metric
from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.report import write_report
from visattn.evaluation.run import evaluate
from visattn.evaluation.sample import Excluded, Sample
from visattn.evaluation.scene import Scene
from visattn.evaluation.scorecard import Row, Scorecard

__all__ = [
    "DATASETS",
    "LEVELS",
    "METRICS",
    "Bench",
    "Case",
    "Dataset",
    "Difficulty",
    "EvaluationConfig",
    "Excluded",
    "Measured",
    "Metric",
    "PlantedEvidence",
    "Row",
    "Sample",
    "Scene",
    "Scorecard",
    "chart",
    "evaluate",
    "evaluate_to",
    "list_datasets",
    "list_metrics",
    "open_dataset",
    "read_metric",
    "write_report",
]
