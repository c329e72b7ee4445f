"""What the documents say is true: examples run, commands exist, tables match the registries."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import visattn
from visattn.adapters import ADAPTERS
from visattn.cli.app import build
from visattn.evaluation import METRICS
from visattn.gates import GATES
from visattn.methods import get_method, list_methods

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = re.findall(r"^\.venv/bin/visattn (.*)$", README, flags=re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=["explain", "capture"])
def test_python_examples_run(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(example, names)  # noqa: S102  the README's own code
    if "maps" in names:
        assert names["maps"][1].target.label == "espresso"
        assert (tmp_path / "coffee.png").is_file()
    else:
        assert names["record"][0].name == "blocks.0.attn"
        assert names["record"][0].shape == (1, 6, 257, 257)


def test_the_example_of_an_adapter_runs() -> None:
    page = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, object] = {"__name__": "example"}
    try:
        exec(example, names)  # noqa: S102  the page's own code
        assert [found.grid.shape for found in names["maps"]] == [(4, 6), (4, 6)]
        assert all((found.grid > 0).any() for found in names["maps"])
    finally:
        ADAPTERS.withdraw("my_net")


def test_the_examples_of_gates_run() -> None:
    page = (ROOT / "docs" / "gates.md").read_text(encoding="utf-8")
    capture, own = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(capture, names)  # noqa: S102  the page's own code
    gate = names["gate"]
    said = re.search(r"gate\.axes  # (.*)$", capture, flags=re.MULTILINE)
    assert said is not None
    assert repr((gate.name, gate.kind, gate.axes)) == said[1].replace('"', "'")
    assert gate.gradient.shape == gate.outputs.shape == gate.inputs.shape
    try:
        exec(own, names)  # noqa: S102
        assert names["record"].gates[0].name == "bam"
        assert names["record"].gates[0].value.shape == (2, 16, 8, 12)
        assert [found.grid.shape for found in names["maps"]] == [(8, 12), (8, 12)]
    finally:
        GATES.withdraw("bam")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_typed_right(command: str, tmp_path: Path) -> None:
    """Every command of the README does its work, as it stands but for the output's place."""
    words = shlex.split(command.replace("data/photos", str(ROOT / "data" / "photos"), 1))
    place = words.index("--out") + 1
    words[place] = str(tmp_path / Path(words[place]).name)
    if words[0] in ("gallery", "evaluate"):
        words += ["--limit", "1"]
    result = CliRunner().invoke(build(), words)
    assert result.exit_code == 0, result.output
    assert Path(words[place]).exists()


def typed(page: str, heading: str = "\n") -> list[list[str]]:
    """Return the commands of visattn in the first shell block of a page behind some words."""
    _, _, rest = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(heading)
    (block, *_) = re.findall(r"```sh\n(.*?)```", rest, flags=re.DOTALL)
    lines = block.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("visattn")]


def test_the_commands_of_evaluation_are_typed_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    planted, config, listing = typed("evaluation.md")
    assert "--list" in listing
    for words in (planted, config):
        result = CliRunner().invoke(build(), [*words, "--limit", "2"])
        assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "truth" / "scorecard.png").is_file()
    assert CliRunner().invoke(build(), listing).exit_code == 0


def test_the_commands_of_sheets_are_typed_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    shutil.copy(ROOT / "data" / "photos" / "cat.jpg", tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    for words in typed("gallery.md", "Layers and heads of a photo"):
        result = CliRunner().invoke(build(), words)
        assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out" / "dinov2" / "sheets").rglob("*.png"))) == 3


def test_the_table_of_methods_is_complete() -> None:
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*?) \|$", page, flags=re.MULTILINE))
    assert sorted(rows) == list_methods()
    for name, paper in rows.items():
        assert paper == (get_method(name).paper or "control")
        assert f"`{name}`" in README


@pytest.mark.parametrize("script", ["write_methods.py", "write_metrics.py"])
def test_tables_are_what_methods_metrics_and_data_sets_declare(script: str) -> None:
    check = [sys.executable, str(ROOT / "scripts" / script), "--check"]
    assert subprocess.run(check, check=False).returncode == 0, "run make methods"


def test_the_examples_of_evaluation_run() -> None:
    page = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    use, own = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(use, names)  # noqa: S102  the page's own code
    assert names["row"].against["random"].above_zero
    try:
        # As a module of its own: without this file's postponed annotations.
        exec(compile(own, "example", "exec", dont_inherit=True), names)  # noqa: S102
        card = names["evaluate"](
            names["model"], "planted?count=4", ["rollout"], ["share_above_mean"]
        )
        assert 0 < card.row("share_above_mean", "random").interval.value < 1
    finally:
        METRICS.withdraw("share_above_mean")


def test_the_version_is_the_changelogs_newest() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert newest is not None
    assert newest[1] == visattn.__version__


def test_every_command_has_a_help_text() -> None:
    runner, app = CliRunner(), build()
    for command in app.registered_commands:
        assert command.callback is not None
        assert command.callback.__doc__
        result = runner.invoke(app, [str(command.name), "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.output
