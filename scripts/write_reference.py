"""Write the tables of docs/reference_models.md and of the model card.

From what `scripts/measure_reference.py` scored and `scripts/train_reference_models.py` wrote down.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from marked import replaced
from measure_methods import EXPENSIVE
from measure_reference import AUTO, SETTINGS, VARIANTS
from scipy.stats import bootstrap
from write_evidence import CONTROLS, interval

from visattn.methods import get_method

Line = Mapping[str, Any]
Places = Mapping[int, float]
ROOT = Path(__file__).parent.parent
TRAINING: Mapping[str, Callable[[Any], str]] = {
    "scenes": lambda facts: f"{facts['recipe']['steps'] * facts['recipe']['batch']:,}",
    "highest rate": lambda facts: f"{facts['recipe']['rate']:g}",
    "seed": lambda facts: str(facts["recipe"]["seed"]),
    "parameters": lambda facts: f"{facts['parameters']:,}",
    "file": lambda facts: f"{facts['bytes'] / 2**20:.1f} MB",
    "time": lambda facts: f"{facts['processor_minutes']:g} minutes of one processor",
    "versions": lambda facts: ", ".join(" ".join(pair) for pair in facts["versions"].items()),
}
ACCURACY: Mapping[str, Callable[[Any], str]] = {
    title: lambda facts, key=key: f"{facts['accuracy'][key]:.3f}"  # type: ignore[misc]
    for title, key in {
        "default": "default",
        "easy": "easy",
        "hard": "hard",
        "default, evidence painted over": "evidence painted over",
        "default, distractors painted over": "distractors painted over",
        "default, two objects": "two objects",
    }.items()
}
HEAD = (
    "| method | energy (95 %) | pointing | rank accuracy | above every control in "
    "| distractor mass | own object | maps |\n|---|---|---|---|---|---|---|---|"
)
JUDGED = ("energy", "pointing", "rank_accuracy")
WORDS = {"rank_accuracy": "ranks"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=Path, default=Path("out/reference/values.jsonl"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "reference_models.md")
    arguments = parser.parse_args()
    text = arguments.values.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    page = arguments.out.read_text(encoding="utf-8")
    for name in SETTINGS:
        page = replaced(page, f"table of {name}", section(name, lines))
    arguments.out.write_text(page, encoding="utf-8")
    write_card(ROOT / "data" / "reference")
    return 0


def write_card(folder: Path) -> None:
    """Fill in the tables of the model card from the JSON files beside it."""
    card = folder / "README.md"
    known = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    page = card.read_text(encoding="utf-8")
    page = replaced(page, "facts", table(known, TRAINING))
    page = replaced(page, "accuracy", table(known, ACCURACY))
    card.write_text(page, encoding="utf-8")


def table(models: Mapping[str, Any], rows: Mapping[str, Callable[[Any], str]]) -> str:
    lines = [["", *(f"`reference:{name}`" for name in models)], ["---"] * (len(models) + 1)]
    lines += [[title, *(cell(facts) for facts in models.values())] for title, cell in rows.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def section(setting: str, lines: Sequence[Line]) -> str:
    by_label: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line["setting"] == setting:
            by_label[line["label"]].append(line)
    if not by_label:
        return "Not measured.\n"
    refused = {
        label: lines[0]["reason"] for label, lines in by_label.items() if "reason" in lines[0]
    }
    for label in refused:
        del by_label[label]
    missing = [label for label in CONTROLS if label not in by_label]
    if missing:
        raise SystemExit(f"{setting}: the controls {', '.join(missing)} were not measured.")
    order = sorted(by_label, key=lambda label: -mean(ratios(by_label[label], "energy")))
    controls = [by_label[label] for label in CONTROLS]
    rows = [row(label, by_label[label], controls) for label in order]
    return "\n".join([HEAD, *rows, *told(refused), ""])


def told(refused: Mapping[str, str]) -> list[str]:
    """Return which methods have no map, by the reason that they give."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for label, reason in refused.items():
        reasons[reason].append(name_of(label))
    lines = [f"- {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return ["", "No maps:", "", *lines] if lines else []


def row(label: str, lines: Sequence[Line], controls: Sequence[Sequence[Line]]) -> str:
    above = [WORDS.get(m, m) for m in JUDGED if all(beats(lines, c, m) for c in controls)]
    cells = [
        name_of(label),
        interval(list(ratios(lines, "energy").values())),
        compared(lines, "pointing"),
        compared(lines, "rank_accuracy"),
        "-" if label in CONTROLS else ", ".join(above) or "**nothing**",
        times(lines, "distractor_mass"),
        compared(lines, "own_object"),
        str(len(lines)),
    ]
    return f"| {' | '.join(cells)} |"


def beats(lines: Sequence[Line], control: Sequence[Line], metric: str) -> bool:
    """Return whether the 95 % interval of the paired difference to a control lies above zero."""
    own, other = values(lines, metric), values(control, metric)
    gain = [own[place] - other[place] for place in sorted(own.keys() & other.keys())]
    if len(gain) < 2 or np.ptp(gain) == 0:
        return bool(np.mean(gain) > 0)
    drawn = bootstrap((gain,), np.mean, method="percentile", rng=np.random.default_rng(0))
    return bool(drawn.confidence_interval.low > 0)


def values(lines: Sequence[Line], metric: str) -> Places:
    """Return a metric by scene."""
    return by_scene(lines, metric, lambda value, _: value)


def by_scene(lines: Sequence[Line], metric: str, number: Callable[[float, float], float]) -> Places:
    """Return means over the classes of each scene, which are not independent of each other."""
    found: dict[int, list[float]] = defaultdict(list)
    for line in lines:
        if metric in line:
            found[line["scene"]].append(number(*line[metric]))
    return {scene: float(np.mean(numbers)) for scene, numbers in found.items()}


def ratios(lines: Sequence[Line], metric: str) -> Places:
    """Return a metric as a multiple of its chance level, by scene."""
    return by_scene(lines, metric, lambda value, chance: value / chance)


def mean(places: Places) -> float:
    return float(np.mean(list(places.values())))


def compared(lines: Sequence[Line], metric: str) -> str:
    """Return the mean of a metric and its chance level."""
    pairs = [line[metric] for line in lines if metric in line]
    if not pairs:
        return "-"
    value, chance = np.mean(pairs, axis=0)
    return f"{value:.2f} ({chance:.2f})"


def times(lines: Sequence[Line], metric: str) -> str:
    found = ratios(lines, metric)
    return f"{mean(found):.2f}" if found else "-"


def name_of(label: str) -> str:
    if label == AUTO:
        return "`auto`"
    method, options = VARIANTS.get(label, (label, EXPENSIVE.get(label, {})))
    told = ", ".join(f"{key}={value}" for key, value in options.items())
    kind = " (control)" if method in CONTROLS else ""
    agnostic = "" if get_method(method).class_specific or kind else " (class-agnostic)"
    return f"`{method}`{f' {told}' if told else ''}{kind}{agnostic}"


if __name__ == "__main__":
    raise SystemExit(main())
