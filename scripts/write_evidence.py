"""Write docs/evidence.md from what `scripts/measure_methods.py` measured."""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from marked import replaced
from measure_methods import EXPENSIVE, SETTINGS, VARIANTS
from scipy.stats import bootstrap

from visattn.methods import get_method

Line = Mapping[str, Any]
ROOT = Path(__file__).parent.parent
CONTROLS = ("random", "center", "edges")
CHOSEN = {"dinov2": "cp_lrp, gamma, tokens", "lite0": "gradcam"}  # what method="auto" takes
COLUMNS = ("grid_pointing", "pointing", "insertion", "deletion", "seconds")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=Path, default=Path("out/evidence/values.jsonl"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "evidence.md")
    arguments = parser.parse_args()
    text = arguments.values.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    page = arguments.out.read_text(encoding="utf-8")
    for name in SETTINGS:
        page = replaced(page, f"table of {name}", section(name, lines))
    arguments.out.write_text(page, encoding="utf-8")
    return 0


def section(setting: str, lines: Sequence[Line]) -> str:
    own = [line for line in lines if line["setting"] == setting]
    by_label: dict[str, list[Line]] = defaultdict(list)
    for line in own:
        by_label[line["label"]].append(line)
    best = by_label[CHOSEN[setting]]
    order = sorted(by_label, key=lambda label: -mean(by_label[label], "grid_pointing"))
    head = (
        "| method | grid pointing (95 %) | less than auto by (95 %, paired) | pointing "
        "| insertion | deletion | s / map | mosaics |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *(row(label, by_label[label], best) for label in order), ""])


def row(label: str, lines: Sequence[Line], best: Sequence[Line]) -> str:
    own, other = by_mosaic(lines), by_mosaic(best)
    both = sorted(own.keys() & other.keys())
    less = interval([other[key] - own[key] for key in both])
    cells = [name_of(label), interval(list(own.values())), "auto" if lines is best else less]
    cells += [mean_cell(lines, column) for column in COLUMNS[1:]]
    cells += [str(len(own))]
    return f"| {' | '.join(cells)} |"


def mean_cell(lines: Sequence[Line], column: str) -> str:
    found = mean(lines, column)
    return "-" if np.isnan(found) else f"{found:.2f}"


def name_of(label: str) -> str:
    method, options = VARIANTS.get(label, (label, EXPENSIVE.get(label, {})))
    told = ", ".join(f"{key}={value}" for key, value in options.items())
    kind = " (control)" if method in CONTROLS else ""
    agnostic = "" if get_method(method).class_specific or kind else " (class-agnostic)"
    return f"`{method}`{f' {told}' if told else ''}{kind}{agnostic}"


def mean(lines: Sequence[Line], column: str) -> float:
    found = [line[column] for line in lines if column in line]
    return float(np.mean(found)) if found else float("nan")


def by_mosaic(lines: Sequence[Line]) -> dict[int, float]:
    """Return the mean grid pointing of each mosaic."""
    groups: dict[int, list[float]] = defaultdict(list)
    for line in lines:
        if "grid_pointing" in line:
            groups[line["image"]].append(line["grid_pointing"])
    return {place: float(np.mean(values)) for place, values in groups.items()}


def interval(means: Sequence[float]) -> str:
    """Return the mean over mosaics with its 95 % percentile bootstrap interval."""
    if len(means) < 2 or np.ptp(means) == 0:
        return f"{np.mean(means):.2f}" if means else "-"
    drawn = bootstrap((means,), np.mean, method="percentile", rng=np.random.default_rng(0))
    low, high = drawn.confidence_interval
    return f"{np.mean(means):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    raise SystemExit(main())
