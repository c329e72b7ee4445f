"""Write the tables of metrics and data sets in docs/evaluation.md from what they declare."""

from __future__ import annotations

import sys
from pathlib import Path

from marked import replaced, table

from visattn.evaluation import DATASETS, METRICS, list_datasets, list_metrics

PAGE = Path(__file__).parent.parent / "docs" / "evaluation.md"
METRIC = ("metric", "formula", "better", "chance", "ranks only", "needs", "costs", "paper")
DATASET = ("data set", "what it is", "has")


def metrics() -> str:
    rows = []
    for name in list_metrics():
        kind = METRICS.get(name)
        rows.append(
            (
                f"`{name}`",
                f"`{kind.formula}`",
                kind.better,
                kind.chance,
                "yes" if kind.rank_only else "no",
                ", ".join(kind.needs),
                str(kind().cost()),
                kind.paper,
            )
        )
    return table(METRIC, rows)


def datasets() -> str:
    rows = []
    for name in list_datasets():
        kind = DATASETS.get(name)
        first = (kind.__doc__ or "").partition("\n")[0]
        rows.append((f"`{name}`", first.replace("``", "`"), ", ".join(kind.truths) or "-"))
    return table(DATASET, rows)


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    now = replaced(replaced(page, "table of metrics", metrics()), "table of data sets", datasets())
    if "--check" in sys.argv:
        return int(now != page)
    PAGE.write_text(now, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
