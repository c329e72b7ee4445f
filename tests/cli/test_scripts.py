"""Scripts do what their own examples say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = (
    *("explain_photo", "draw_figure", "explore_photo"),
    *("export_gallery", "render_gallery", "export_gallery_maps", "evaluate_methods"),
)


def examples(name: str) -> list[list[str]]:
    """Return the commands in the docstring of a script."""
    text = (ROOT / "scripts" / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]
    lines = re.sub(r"\s*\\\\\n\s*", " ", text).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("    python ")]


def run(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_shows_the_example_as_it_is_typed(name: str) -> None:
    done = run([f"scripts/{name}.py", "--help"], ROOT)
    assert done.returncode == 0, done.stderr
    first = (ROOT / "scripts" / f"{name}.py").read_text(encoding="utf-8").splitlines()[2]
    shown = " ".join(done.stdout.split())
    assert " ".join(first.removesuffix("\\\\").split()) in shown


@pytest.mark.parametrize("name", ["explain_photo", "draw_figure", "explore_photo"])
def test_the_example_of_one_photo_works(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    ((*words, out),) = examples(name)
    done = run([*words, out], tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / out).stat().st_size > 10_000


def test_the_examples_of_galleries_work(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    make, render = examples("render_gallery")
    same, export = examples("export_gallery_maps")
    assert make == same
    for words in (make, render, export):
        done = run(words, tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks.json").is_file()
    assert (tmp_path / "sheet.pdf").is_file()


def test_the_examples_of_evaluation_work(tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    for words in examples("evaluate_methods"):
        done = run([*words, "--limit", "3"], tmp_path)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / words[words.index("--out") + 1] / "scorecard.png").is_file()


def test_a_wrong_command_is_one_line(tmp_path: Path) -> None:
    done = run([str(ROOT / "scripts" / "render_gallery.py"), "absent"], tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("visattn: absent is no gallery")
