"""Tables of a scorecard to compute with: CSV, and JSON for all of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from visattn.evaluation.interval import Interval
from visattn.evaluation.metrics import Metric
from visattn.evaluation.scorecard import Row, Scorecard

COLUMNS = (
    "metric", "method", "control", "value", "low", "high", "groups", "maps", "chance", "better",
    "verdict", "behind_best", "behind_best_low", "behind_best_high", "refused", "excluded",
    "passes", "explanations", "seconds", "seconds_in_passes", "seconds_of_map",
)  # fmt: skip


def as_json(card: Scorecard) -> str:
    """Return everything that a scorecard holds."""
    told = {
        **card.facts,
        "samples": card.samples,
        "excluded_samples": dict(card.excluded),
        "metrics": {label: _declared(metric) for label, metric in card.metrics.items()},
        "rows": [asdict(row) for row in card.rows],
    }
    return json.dumps(told, indent=2, allow_nan=False) + "\n"


def as_csv(card: Scorecard) -> str:
    """Return one line for each metric and method, under `COLUMNS`."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(_fields(row, card.metrics[row.metric]) for row in card.rows)
    return text.getvalue()


def _fields(row: Row, metric: Metric) -> list[Any]:
    own, behind = (_bounds(each) for each in (row.interval, row.behind))
    left = "; ".join(f"{count} {reason}" for reason, count in row.excluded.items())
    groups = row.interval.groups if row.interval else 0
    return [
        row.metric, row.method, row.control, *own, groups, row.maps, _blank(row.chance),
        metric.better, row.verdict or "", *behind, row.refused or "", left, row.passes,
        row.explanations, row.seconds, row.inside, row.mapping,
    ]  # fmt: skip


def _bounds(found: Interval | None) -> list[Any]:
    parts = (found.value, found.low, found.high) if found else (None, None, None)
    return [_blank(part) for part in parts]


def _blank(value: float | None) -> Any:
    return "" if value is None else value


def _declared(metric: Metric) -> Mapping[str, Any]:
    return {
        "better": metric.better,
        "chance": metric.chance,
        "rank_only": metric.ranks_alone(),
        "cost": str(metric.cost()),
        "formula": metric.formula,
        "paper": metric.paper,
        "options": metric.options(),
    }
