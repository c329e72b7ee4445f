"""Tables of a scorecard: Markdown to read, CSV to compute with, LaTeX to print, JSON for all."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from visattn.evaluation.interval import Interval
from visattn.evaluation.metrics import HIGHER, LOWER, Metric
from visattn.evaluation.result import NO_NUMBER, UNFIT
from visattn.evaluation.scorecard import BETTER, WORSE, Row, Scorecard
from visattn.figures.stub import escaped

FAILED = ("no map:", NO_NUMBER, UNFIT)  # of reasons why maps are left out, those that are failures
MARKS = {BETTER: " ▲", WORSE: " ▼"}
LATEX_MARKS = {
    BETTER: r"\rlap{\,$\scriptstyle\triangle$}",
    WORSE: r"\rlap{\,$\scriptstyle\bigtriangledown$}",
}
ARROWS = {HIGHER: "↑", LOWER: "↓"}
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


def as_markdown(card: Scorecard) -> str:
    """Return an overview, one table for each metric, and what the marks mean."""
    parts = [heading(card), overview(card), LEGEND]
    parts += [_of_metric(card, label) for label in card.metrics]
    return "\n".join(parts)


def heading(card: Scorecard) -> str:
    """Return what was evaluated on what, and what was left out."""
    dataset = card.facts["dataset"]
    told = ", ".join(f"{key} {value}" for key, value in dataset.items() if key != "name")
    lines = [
        f"# {card.facts['model']['name']} on {dataset['name']}",
        "",
        (
            f"{card.samples} samples ({told}). visattn {card.facts['visattn']}, bootstrap seed "
            f"{card.facts['seed']}."
        ),
    ]
    lines.append(f"{spent(card)}.")
    if card.excluded:
        left = ", ".join(f"{count} {reason}" for reason, count in card.excluded.items())
        lines.append(f"Samples left out: {left}.")
    return "\n".join([*lines, ""])


def spent(card: Scorecard) -> str:
    """Return the seconds that maps and metrics took, over all runs that the results come from."""
    first = card.of(next(iter(card.metrics)))
    maps = sum(row.mapping * row.maps for row in first)
    metrics, inside = (
        sum(getattr(row, name) * row.maps for row in card.rows) for name in ("seconds", "inside")
    )
    passes = sum(row.passes * row.maps for row in card.rows)
    return (
        f"Maps took {maps:.0f} s, metrics {metrics:.0f} s, of which {inside:.0f} s in "
        f"{passes:.0f} forward passes"
    )


LEGEND = """
Values are means over images with 95 % percentile bootstrap intervals over images. ▲: better than
every control, ▼: worse than a control, both by the interval of the paired difference on the same
images; no mark: not separated. ↑ higher is better, ↓ lower is better. Bold: the best value, and
what that interval does not separate from it. Metrics with † change when a map is raised to a power.
"""


def overview(card: Scorecard) -> str:
    """Return one table, methods down and metrics across, methods in the order of the first."""
    heads = [f"{label}{_dagger(metric)} {_arrow(metric)}" for label, metric in card.metrics.items()]
    lines = [_line(["method", *heads]), _line(["---"] * (len(heads) + 1))]
    for method in card.methods:
        rows = [card.row(label, method) for label in card.metrics]
        named = f"`{method}`{' (control)' if rows[0].control else ''}"
        lines.append(_line([named, *(cell(row, card.metrics[row.metric]) for row in rows)]))
    return "\n".join([*lines, ""])


def cell(row: Row, metric: Metric) -> str:
    """Return a value with its interval and marks."""
    if row.interval is None:
        return "does not apply" if row.refused else "no map"
    text = f"{_interval(row.interval)}{MARKS.get(row.verdict or '', '')}"
    return f"**{text}**" if leads(row, metric) else text


def leads(row: Row, metric: Metric) -> bool:
    """Return whether the best method is this one, or not better by the paired interval."""
    if metric.better not in (HIGHER, LOWER) or row.interval is None:
        return False
    if row.behind is None or row.behind.low is None:
        return row.best
    return not (row.behind.below_zero if metric.better == HIGHER else row.behind.above_zero)


def as_latex(card: Scorecard) -> str:
    r"""Return the overview as a ``tabular`` for the package booktabs.

    The options of a metric stand below its name: in one line they would make tables too wide.
    """
    heads = [_latex_head(label, metric) for label, metric in card.metrics.items()]
    lines = [
        (
            f"% {card.facts['model']['name']} on {card.facts['dataset']['name']}, {card.samples} "
            "samples; 95 % bootstrap intervals over images"
        ),
        "% bold: the best, and what the paired interval does not separate from it",
        "% triangle: better than every control, upside down: worse than one, by paired intervals",
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
        r"  \toprule",
        f"  method & {' & '.join(heads)} \\\\",
        r"  \midrule",
    ]
    for control in (False, True):
        body = [method for method in card.methods if _control(card, method) is control]
        if control and body:
            lines.append(r"  \midrule")
        for method in body:
            cells = [_latex_cell(card.row(label, method), m) for label, m in card.metrics.items()]
            lines.append(f"  {escaped(method)} & {' & '.join(cells)} \\\\")
    return "\n".join([*lines, r"  \bottomrule", r"\end{tabular}", ""])


def _of_metric(card: Scorecard, label: str) -> str:
    metric, rows = card.metrics[label], card.of(label)
    controls = [row.method for row in rows if row.control and row.interval]
    heads = ["method", "value", *(f"- {name}" for name in controls), "maps", "left out"]
    lines = [
        f"## {label}",
        "",
        (
            f"`{metric.formula}`. {metric.paper}. Better: {metric.better}. "
            f"Chance: {metric.chance}{_chance(rows)}. "
            f"{'Ranks alone count' if metric.ranks_alone() else 'Monotone transforms change it'}. "
            f"Costs {metric.cost()} for each map; measured {_spent(metric, rows)}."
        ),
        "",
        _line(heads),
        _line(["---"] * len(heads)),
    ]
    for row in rows:
        differences = [_interval(row.against[n]) if n in row.against else "" for n in controls]
        left = ", ".join(f"{count} {reason}" for reason, count in row.excluded.items())
        lines.append(
            _line(
                [f"`{row.method}`", cell(row, metric), *differences, str(row.maps),
                 row.refused or left]
            )
        )  # fmt: skip
    return "\n".join([*lines, ""])


def _spent(metric: Metric, rows: Sequence[Row]) -> str:
    """Return forward passes and time of a metric, over all rows that were measured."""
    maps = sum(row.maps for row in rows)
    if not maps:
        return "nothing"
    passes, seconds, inside = (
        sum(getattr(row, name) * row.maps for row in rows)
        for name in ("passes", "seconds", "inside")
    )
    took = f"{seconds / maps:.2g} s"
    if not passes:
        shared = metric.cost().forward > 0
        return f"{took}{', on the passes of another metric' if shared else ''}"
    times = f", {seconds / inside:.2f} times the passes alone" if inside else ""
    return f"{passes / maps:.1f} passes and {took}{times}"


def _chance(rows: Sequence[Row]) -> str:
    """Return the chance level of the maps: it may depend on their grid, so a range is told."""
    known = sorted(row.chance for row in rows if row.chance is not None)
    ends = dict.fromkeys(f"{each:.3g}" for each in (*known[:1], *known[-1:]))
    return f" ({' to '.join(ends)} here)" if ends else ""


def _interval(found: Interval) -> str:
    if found.low is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def _latex_cell(row: Row, metric: Metric) -> str:
    if row.interval is None:
        return "--"
    value, low, high = row.interval.value, row.interval.low, row.interval.high
    text = rf"\mathbf{{{value:.3f}}}" if leads(row, metric) else f"{value:.3f}"
    sign = LATEX_MARKS.get(row.verdict or "", "")
    return (f"${text}$" if low is None else rf"${text}_{{{low:.3f}}}^{{{high:.3f}}}$") + sign


def _control(card: Scorecard, method: str) -> bool:
    return next(row.control for row in card.rows if row.method == method)


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


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(each.replace('|', chr(92) + '|') for each in cells)} |"


def _arrow(metric: Metric) -> str:
    return ARROWS.get(metric.better, "")


def _latex_arrow(metric: Metric) -> str:
    return {HIGHER: r"$\uparrow$", LOWER: r"$\downarrow$"}.get(metric.better, "")


def _latex_head(label: str, metric: Metric) -> str:
    name, _, options = label.partition(":")
    lines = [name + ":" * bool(options), *re.split(r",(?=\w+=)", options)]
    parts = [escaped(each) for each in lines if each]
    parts[-1] = f"{parts[-1]} {_latex_arrow(metric)}"
    stacked = r" \\ ".join(parts)
    return stacked if len(parts) == 1 else rf"\shortstack[r]{{{stacked}}}"


def _dagger(metric: Metric) -> str:
    return "" if metric.ranks_alone() else " †"


def ending(card: Scorecard) -> tuple[list[str], bool]:
    """Return what to print at the end of a run, and whether everything asked for was measured.

    Controls were not asked for: where one of them does not apply nothing is missing.
    """
    lines = [f"{card.samples} samples"]
    lines += [f"left out: {count} {reason}" for reason, count in card.excluded.items()]
    refused: dict[tuple[str, str], list[str]] = {}
    failed: dict[tuple[str, str], int] = {}
    for row in card.rows:
        if row.refused and not row.control:
            refused.setdefault((row.method, row.refused), []).append(row.metric)
        for reason, count in row.excluded.items():
            if row.control and reason == UNFIT:
                continue
            failed[row.method, reason] = max(count, failed.get((row.method, reason), 0))
    lines += [f"{m} does not apply ({', '.join(k)}): {why}" for (m, why), k in refused.items()]
    lines += [f"{m}: {count} maps left out: {why}" for (m, why), count in failed.items()]
    return lines, not (
        refused
        or any(why.startswith(FAILED) for _, why in failed)
        or "unreadable image" in card.excluded
    )
