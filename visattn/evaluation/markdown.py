"""A scorecard as Markdown, to read."""

from __future__ import annotations

from collections.abc import Sequence

from visattn.evaluation.interval import Interval
from visattn.evaluation.metrics import HIGHER, LOWER, Metric
from visattn.evaluation.scorecard import BETTER, WORSE, Row, Scorecard, leads

MARKS = {BETTER: " ▲", WORSE: " ▼"}
ARROWS = {HIGHER: "↑", LOWER: "↓"}
LEGEND = """
Values are means over images with 95 % percentile bootstrap intervals over images. ▲: better than
every control, ▼: worse than a control, both by the interval of the paired difference on the same
images; no mark: not separated. ↑ higher is better, ↓ lower is better. Bold: the best value, and
what that interval does not separate from it. Metrics with † change when a map is raised to a power.
"""


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


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(each.replace('|', chr(92) + '|') for each in cells)} |"


def _arrow(metric: Metric) -> str:
    return ARROWS.get(metric.better, "")


def _dagger(metric: Metric) -> str:
    return "" if metric.ranks_alone() else " †"
