"""The ``visattn`` command itself: help, version, exit codes, and its real console script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from cli_command import Command
from typer.testing import CliRunner

import visattn
from visattn.cli.app import NOT_COMMANDS, build

COMMANDS = ["demo", "doctor", "explain", "gallery", "inspect", "methods", "models"]
SCRIPT = Path(sys.executable).parent / "visattn"


def test_the_commands_are_the_files_of_the_folder() -> None:
    folder = Path(visattn.__file__).parent / "cli"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", *NOT_COMMANDS}
    names = {command.name for command in build().registered_commands}
    assert names == files >= set(COMMANDS)


def test_help_lists_every_command_with_a_sentence(visattn_command: Command) -> None:
    for flag in ("--help", "-h"):
        done = visattn_command(flag)
        assert done.code == 0
        for name in COMMANDS:
            assert f" {name} " in done.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_and_its_options(name: str) -> None:
    done = CliRunner().invoke(build(), [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 0
    assert f"{name} [OPTIONS]" in done.output
    (command,) = (c for c in build().registered_commands if c.name == name)
    assert command.callback is not None
    first_words = " ".join((command.callback.__doc__ or "").split()[:4])
    assert first_words in " ".join(done.output.split())


@pytest.mark.parametrize("name", ["explain", "gallery"])
def test_no_option_is_left_without_help(name: str) -> None:
    group: Any = typer.main.get_command(build())
    for parameter in group.commands[name].params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), parameter.name


def test_version(visattn_command: Command) -> None:
    done = visattn_command("--version")
    assert (done.code, done.out) == (0, f"visattn {visattn.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [["explian"], ["explain"], ["explain", "--modle", "x"], ["--verison"], ["inspect"]],
)
def test_a_wrong_command_line_is_exit_code_2_with_a_word_on_stderr(
    visattn_command: Command, arguments: list[str]
) -> None:
    done = visattn_command(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Error" in done.err


def test_a_mistyped_command_gets_a_suggestion(visattn_command: Command) -> None:
    assert "explain" in visattn_command("explian").err


def test_an_error_of_ours_is_one_line_without_a_traceback(visattn_command: Command) -> None:
    done = visattn_command("models", "no-such-*")
    assert done.code == 2
    assert done.err.startswith("visattn: No model matches 'no-such-*'")
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.mark.parametrize("start", [[str(SCRIPT)], [sys.executable, "-m", "visattn"]])
def test_the_installed_command_runs_anywhere(tmp_path: Path, start: list[str]) -> None:
    done = run(*start, "--version", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"visattn {visattn.__version__}\n")
    done = run(*start, "explain", "a.jpg", "-m", "test_vit", "-o", "a.docx", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("visattn: --out a.docx: choose one of .png")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_console_script_explains_a_photo(tmp_path: Path, photo: Path) -> None:
    done = run(
        str(SCRIPT), "explain", str(photo), "--model", "test_vit", "--weights", "random",
        "--method", "rollout", "--device", "cpu", "--out", "map.npz", folder=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "map.npz\n"), done.stderr
    loaded = visattn.SaliencyMap.load(tmp_path / "map.npz")
    assert (loaded.method, loaded.model, loaded.grid.shape) == ("rollout", "test_vit", (10, 10))
    assert loaded.on_image().shape == (160, 250)
