"""Scorecards: verdicts by paired intervals, the same numbers in every table and in the figure."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from tests.evaluation.additive import Brightness
from visattn.errors import ConfigError
from visattn.evaluation.chart import BAD, CONTROL, GOOD, chart
from visattn.evaluation.ending import ending
from visattn.evaluation.latex import as_latex
from visattn.evaluation.markdown import as_markdown
from visattn.evaluation.metrics import LOWER, NEITHER
from visattn.evaluation.report import write_report
from visattn.evaluation.result import Result
from visattn.evaluation.scorecard import Scorecard, grouped, leads, rows_of
from visattn.evaluation.tables import as_csv, as_json
from visattn.evaluation.trial import Trial

TRIALS = [Trial(name, name) for name in ("gae", "rollout", "saliency", "random", "edges")]
RANDOM = np.random.default_rng(0).uniform(0.4, 0.6, 30)
NOISE = np.random.default_rng(1).normal(0, 0.01, 30)


@dataclass(frozen=True)
class Less(Brightness):
    better: ClassVar[str] = LOWER


@dataclass(frozen=True)
class Ranked(Brightness):
    rank_only: ClassVar[bool] = True


@dataclass(frozen=True)
class Described(Brightness):
    better: ClassVar[str] = NEITHER


def results(values: dict[str, np.ndarray], left_out: int = 0) -> dict[str, list[Result]]:
    found = {
        name: [
            Result(f"{name} {i}", f"s{i}", f"s{i}", name, "m", float(v), 0.5, (), passes=2.0,
                   seconds=0.2, inside=0.19)
            for i, v in enumerate(each)
        ]
        for name, each in values.items()
    }  # fmt: skip
    for index in range(left_out):
        found["gae"].append(
            Result(f"x{index}", f"x{index}", f"x{index}", "gae", "m", reason="constant map")
        )
    return found


def card_of(metric: Brightness | None = None, label: str = "m|x", left_out: int = 2) -> Scorecard:
    metric = metric or Brightness()
    values = {
        "gae": RANDOM + 0.03 + NOISE,
        "saliency": RANDOM + 5 * NOISE,
        "random": RANDOM,
        "edges": RANDOM - 0.05,
    }
    refusals = {"rollout": "no attention | at all"}
    rows = rows_of(label, metric, TRIALS, results(values, left_out), refusals, 0)
    facts = {"model": {"name": "net_1"}, "dataset": {"name": "Noise", "count": 30},
             "visattn": "1", "seed": 0}  # fmt: skip
    return Scorecard(tuple(rows), {label: metric}, facts, {"unreadable image": 3}, 30)


def test_better_and_worse_are_said_only_where_the_paired_interval_says_so() -> None:
    card = card_of()
    verdicts = {row.method: row.verdict for row in card.rows}
    assert verdicts == {
        "gae": "better", "saliency": "not separated", "random": None, "edges": None,
        "rollout": None,
    }  # fmt: skip
    gae, random = card.row("m|x", "gae"), card.row("m|x", "random")
    assert gae.interval.low < random.interval.high  # apart only in pairs
    assert gae.against["random"].low == pytest.approx(0.03, abs=0.01)


def test_a_method_below_one_control_is_worse_and_directions_turn_it_round() -> None:
    assert card_of(Less()).row("m|x", "gae").verdict == "worse"
    assert card_of(Described()).row("m|x", "gae").verdict is None


def test_the_best_come_first_and_know_how_far_the_others_are_behind() -> None:
    card = card_of()
    assert card.methods == ("gae", "random", "saliency", "edges", "rollout")
    assert [row.behind is None for row in card.rows] == [True, False, False, False, True]
    assert card.row("m|x", "edges").behind.value == pytest.approx(-0.08, abs=0.01)
    assert card_of(Less()).methods[:2] == ("edges", "saliency")


def test_pairs_are_the_groups_that_both_have() -> None:
    values = {"gae": np.ones(4), "random": np.zeros(4)}
    found = results(values)
    found["random"] = found["random"][1:]
    (row, *_) = rows_of("m", Brightness(), [Trial("gae", "gae"), Trial("random", "random")],
                        found, {}, 0)  # fmt: skip
    assert row.interval.groups == 4
    assert row.against["random"].groups == 3


def test_samples_of_one_group_count_as_one() -> None:
    parts = [Result(str(i), f"s{i}", f"g{i // 2}", "gae", "m", float(i)) for i in range(4)]
    assert {k: v.tolist() for k, v in grouped(parts).items()} == {"g0": [0.5], "g1": [2.5]}


def test_csv_has_every_number() -> None:
    card = card_of()
    lines = {line["method"]: line for line in csv.DictReader(io.StringIO(as_csv(card)))}
    gae = card.row("m|x", "gae")
    assert float(lines["gae"]["value"]) == gae.interval.value
    assert float(lines["gae"]["high"]) == gae.interval.high
    assert lines["gae"]["verdict"] == "better"
    assert lines["gae"]["excluded"] == "2 constant map"
    assert lines["gae"]["maps"] == "30"
    assert float(lines["gae"]["passes"]) == 2.0
    assert lines["gae"]["behind_best"] == ""
    assert lines["rollout"]["refused"] == "no attention | at all"
    assert lines["rollout"]["value"] == ""
    assert lines["random"]["control"] == "True"


def test_json_has_everything() -> None:
    told = json.loads(as_json(card_of()))
    assert told["excluded_samples"] == {"unreadable image": 3}
    assert told["metrics"]["m|x"]["cost"] == "2 forward"
    assert told["rows"][0]["against"]["random"]["low"] > 0


def test_markdown_says_what_was_left_out_and_keeps_its_columns() -> None:
    text = as_markdown(card_of())
    assert "Samples left out: 3 unreadable image." in text
    assert "2 constant map" in text
    assert "no attention \\| at all" in text
    assert "1.05 times the passes alone" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    columns = {line.replace("\\|", "").count("|") for line in tables}
    assert columns == {3, 7}
    (gae,) = [line for line in tables if line.startswith("| `gae`") and "left" not in line][:1]
    assert "**" in gae
    assert "▲" in gae


def test_latex_escapes_names_and_sets_controls_apart() -> None:
    lines = as_latex(card_of(label="m_x")).splitlines()
    text = "\n".join(lines)
    assert r"m\_x $\uparrow$" in text
    assert r"\mathbf{" in next(line for line in lines if line.startswith("  gae &"))
    assert text.index("rollout & --") < text.index(r"\midrule" + "\n  random")
    assert text.count("{") == text.count("}")


def test_latex_says_what_is_better_and_stacks_options() -> None:
    card = card_of(label="m:fractions=(0.1,0.2),unit=8")
    text = as_latex(card)
    assert r"\shortstack[r]{m: \\ fractions=(0.1,0.2) \\ unit=8 $\uparrow$}" in text
    (gae,) = [line for line in text.splitlines() if line.startswith("  gae &")]
    assert gae.endswith(r"\rlap{\,$\scriptstyle\triangle$} \\")
    assert text.count(r"\rlap{") == 1
    worse = as_latex(card_of(Less()))
    assert r"\rlap{\,$\scriptstyle\bigtriangledown$} \\" in worse


def test_the_figure_has_numbers_where_there_is_room_and_names_every_mark() -> None:
    figure = chart(card_of())
    (axes,) = (each for each in figure.axes if each.axison)
    low, high = axes.get_xlim()
    assert sum(low <= each <= high for each in axes.get_xticks()) >= 4
    words = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"better than every control", "worse than a control", "chance"} <= words


def test_the_figure_shows_values_and_their_kinds() -> None:
    card = card_of()
    figure = chart(card)
    (axes,) = (each for each in figure.axes if each.axison)
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["gae", "random", "saliency", "edges"]
    dots = [line for line in axes.lines if line.get_marker() not in ("None", "")]
    assert [dot.get_xdata()[0] for dot in dots] == [
        card.row("m|x", name).interval.value for name in names
    ]
    assert [dot.get_color() for dot in dots[:2]] == [GOOD, CONTROL]
    worse = chart(card_of(Less()))
    colours = {line.get_color() for line in worse.axes[0].lines}
    assert BAD in colours


def test_nothing_measured_has_tables_and_no_figure(tmp_path: Path) -> None:
    rows = rows_of("m", Brightness(), TRIALS[:1], {}, {"gae": "no"}, 0)
    facts = card_of().facts
    card = Scorecard(tuple(rows), {"m": Brightness()}, facts, {}, 1)
    with pytest.raises(ConfigError, match="Nothing was measured"):
        chart(card)
    names = {path.name for path in write_report(card, tmp_path)}
    assert names == {f"scorecard.{suffix}" for suffix in ("json", "csv", "md", "tex")}


def test_a_report_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    one, other = (write_report(card_of(), tmp_path / name) for name in ("a", "b"))
    assert len(one) == 6
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_the_ending_lists_refusals_and_left_out_maps() -> None:
    lines, whole = ending(card_of())
    assert not whole
    assert "rollout does not apply (m|x): no attention | at all" in lines
    assert "gae: 2 maps left out: constant map" in lines
    assert "left out: 3 unreadable image" in lines


def test_rows_that_do_not_exist_are_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'gae'"):
        card_of().row("m|x", "gaee")
    with pytest.raises(ConfigError, match="no row mx of gae"):
        card_of().row("mx", "gae")


def test_pairs_of_a_group_are_the_samples_that_both_have() -> None:
    """Of a photo with an easy and a hard class a control without the hard one is no worse."""
    gae = [Result(f"g{i}", f"s{i}", f"p{i // 2}", "gae", "m", float(i % 2)) for i in range(12)]
    random = [
        Result(f"r{i}", f"s{i}", f"p{i // 2}", "random", "m", float(i % 2)) for i in range(1, 12, 2)
    ]
    trials = [Trial("gae", "gae"), Trial("random", "random")]
    rows = rows_of("m", Brightness(), trials, {"gae": gae, "random": random}, {}, 0)
    (row,) = (each for each in rows if each.method == "gae")
    assert row.interval.value == 0.5
    assert (row.against["random"].value, row.against["random"].high) == (0.0, 0.0)
    assert row.verdict == "not separated"


def test_nothing_is_better_than_a_control_that_has_no_value() -> None:
    values = {"gae": RANDOM + 1, "random": RANDOM}
    trials = [Trial(name, name) for name in ("gae", "random", "edges")]
    found = results(values)
    found["edges"] = [Result("e", "s0", "s0", "edges", "m", reason="constant map")]

    def verdict(refusals: dict[str, str]) -> str | None:
        rows = rows_of("m", Brightness(), trials, found, refusals, 0)
        return next(row.verdict for row in rows if row.method == "gae")

    assert verdict({}) == "not separated"
    assert verdict({"edges": "does not apply"}) == "better"


def test_the_difference_of_equal_values_is_zero_and_separates_nothing() -> None:
    rows = rows_of("m", Brightness(), [Trial("gae", "gae"), Trial("random", "random")],
                   results({"gae": RANDOM, "random": RANDOM}), {}, 0)  # fmt: skip
    (row,) = (each for each in rows if each.method == "gae")
    found = row.against["random"]
    assert (found.value, found.low, found.high, row.verdict) == (0, 0, 0, "not separated")


def test_what_shares_no_image_with_the_best_is_not_bold() -> None:
    found = results({"gae": np.ones(4), "saliency": np.zeros(4)})
    found["gae"] = [replace(e, sample=f"x{e.sample}", group=f"x{e.group}") for e in found["gae"]]
    rows = rows_of("m", Brightness(), TRIALS[:3], found, {}, 0)
    leading = {row.method: leads(row, Brightness()) for row in rows}
    assert leading == {"gae": True, "saliency": False, "rollout": False}


def test_of_one_image_the_best_alone_is_bold() -> None:
    found = results({"gae": np.ones(1), "saliency": np.zeros(1)})
    rows = rows_of("m", Brightness(), TRIALS[:3], found, {}, 0)
    assert [leads(row, Brightness()) for row in rows] == [True, False, False]


def test_chance_of_each_grid_is_told_and_drawn() -> None:
    card = card_of()
    rows = tuple(
        replace(row, chance=0.1 * place) for place, row in enumerate(card.rows) if row.interval
    )
    card = replace(card, rows=rows)
    assert "Chance: 0 (0 to 0.3 here)" in as_markdown(card)
    lines = [line for line in chart(card).axes[0].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in lines] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert len([e for e in chart(card_of()).axes[0].lines if e.get_linestyle() == "--"]) == 1


def test_a_control_that_does_not_apply_is_no_failure() -> None:
    rows = rows_of("m", Brightness(), [Trial("gae", "gae"), Trial("random", "random")],
                   results({"gae": RANDOM}), {"random": "shares out nothing"}, 0)  # fmt: skip
    card = Scorecard(tuple(rows), {"m": Brightness()}, card_of().facts, {}, 30)
    assert ending(card) == (["30 samples"], True)


def test_names_that_are_no_text_do_not_stop_a_report(tmp_path: Path) -> None:
    card = card_of()
    card.facts["dataset"]["source"] = "photos \udcff"
    write_report(card, tmp_path)
    assert "photos \\udcff" in (tmp_path / "scorecard.md").read_text(encoding="utf-8")


def bold(text: str, method: str) -> bool:
    return "**" in next(line for line in text.splitlines() if line.startswith(f"| `{method}"))


def test_what_is_separated_from_the_best_is_not_bold() -> None:
    card = card_of(label="m")
    text, latex = as_markdown(card), as_latex(card)
    assert [bold(text, method) for method in ("gae", "random", "edges")] == [True, False, False]
    edges = next(line for line in latex.splitlines() if line.startswith("  edges &"))
    assert r"\mathbf" not in edges
    assert r"\mathbf" in next(line for line in latex.splitlines() if line.startswith("  gae &"))


def test_a_dagger_marks_metrics_that_values_change() -> None:
    assert "| method | m|x † ↑ |".replace("m|x", "m\\|x") in as_markdown(card_of())
    head = next(line for line in as_markdown(card_of(Ranked())).splitlines() if "| method" in line)
    assert head == "| method | m\\|x ↑ |"


def test_intervals_and_the_legend_are_drawn_as_they_are() -> None:
    card = card_of()
    figure = chart(card)
    axes = figure.axes[0]
    lines = [
        line
        for line in axes.lines
        if line.get_marker() == "None" and len(set(line.get_ydata())) == 1
    ]
    drawn = {tuple(float(x) for x in line.get_xdata()) for line in lines}
    shown = [row.interval for row in card.rows if row.interval]
    assert {(each.low, each.high) for each in shown} <= drawn
    (legend,) = figure.legends
    handles = {h.get_label(): (h.get_marker(), h.get_color()) for h in legend.legend_handles}
    assert handles["better than every control"] == ("o", GOOD)
    assert handles["worse than a control"] == ("v", BAD)
    assert handles["control"] == ("s", CONTROL)


def test_chance_of_some_rows_alone_is_no_line_for_all() -> None:
    values = {"gae": RANDOM, "random": RANDOM - 0.1}
    found = results(values)
    found["random"] = [replace(each, chance=None) for each in found["random"]]
    trials = [Trial("gae", "gae"), Trial("random", "random")]
    rows = rows_of("m", Brightness(), trials, found, {}, 0)
    card = Scorecard(tuple(rows), {"m": Brightness()}, card_of().facts, {}, 30)

    def strokes(card: Scorecard) -> list[list[float]]:
        dashed = [line for line in chart(card).axes[0].lines if line.get_linestyle() == "--"]
        return [[float(y) for y in line.get_ydata()] for line in dashed]

    assert strokes(card) == [[-0.5, 0.5]]
    whole = rows_of("m", Brightness(), trials, results(values), {}, 0)
    assert strokes(replace(card, rows=tuple(whole))) == [[0.0, 1.0]]  # of the axes
