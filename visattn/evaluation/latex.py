"""A scorecard as a LaTeX table, to print."""

from __future__ import annotations

import re

from visattn.evaluation.metrics import HIGHER, LOWER, Metric
from visattn.evaluation.scorecard import BETTER, WORSE, Row, Scorecard, leads
from visattn.figures.stub import escaped

MARKS = {
    BETTER: r"\rlap{\,$\scriptstyle\triangle$}",
    WORSE: r"\rlap{\,$\scriptstyle\bigtriangledown$}",
}


def as_latex(card: Scorecard) -> str:
    r"""Return the overview as a ``tabular`` for the package booktabs.

    The options of a metric stand below its name: in one line they would make tables too wide.
    """
    heads = [_head(label, metric) for label, metric in card.metrics.items()]
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
            cells = [_cell(card.row(label, method), m) for label, m in card.metrics.items()]
            lines.append(f"  {escaped(method)} & {' & '.join(cells)} \\\\")
    return "\n".join([*lines, r"  \bottomrule", r"\end{tabular}", ""])


def _head(label: str, metric: Metric) -> str:
    name, _, options = label.partition(":")
    lines = [name + ":" * bool(options), *re.split(r",(?=\w+=)", options)]
    parts = [escaped(each) for each in lines if each]
    parts[-1] = f"{parts[-1]} {_arrow(metric)}"
    stacked = r" \\ ".join(parts)
    return stacked if len(parts) == 1 else rf"\shortstack[r]{{{stacked}}}"


def _cell(row: Row, metric: Metric) -> str:
    if row.interval is None:
        return "--"
    value, low, high = row.interval.value, row.interval.low, row.interval.high
    text = rf"\mathbf{{{value:.3f}}}" if leads(row, metric) else f"{value:.3f}"
    sign = MARKS.get(row.verdict or "", "")
    return (f"${text}$" if low is None else rf"${text}_{{{low:.3f}}}^{{{high:.3f}}}$") + sign


def _arrow(metric: Metric) -> str:
    return {HIGHER: r"$\uparrow$", LOWER: r"$\downarrow$"}.get(metric.better, "")


def _control(card: Scorecard, method: str) -> bool:
    return next(row.control for row in card.rows if row.method == method)
