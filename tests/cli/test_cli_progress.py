"""What a user who waits is told on stderr: how many passes are ahead, and a bar on terminals."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from cli_command import Command, Done

from visattn.cli.progress import shown
from visattn.progress import LONG

VIT = ("--model", "test_vit", "--weights", "random", "--device", "cpu", "--image-size", "64")


@pytest.fixture
def rise(
    visattn_command: Command, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    def run(masks: int, *options: str, terminal: bool = False) -> Done:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
        monkeypatch.setenv("TERM", "xterm")
        words = ("--method", "rise", "-O", f"masks={masks}", *options, "--out", tmp_path / "m.npz")
        return visattn_command("explain", photo, *VIT, *words)

    return run


def lines(done: Done) -> list[str]:
    return [line for line in done.err.splitlines() if not line.startswith("warning:")]


def test_without_a_terminal_long_work_is_one_line_on_stderr(rise: Any, tmp_path: Path) -> None:
    done = rise(LONG)
    assert done.code == 0, done.err
    assert lines(done) == [f"rise: {LONG} forward passes"]
    assert done.out == f"{tmp_path / 'm.npz'}\n"


def test_without_a_terminal_short_work_is_silent(rise: Any) -> None:
    assert lines(rise(LONG - 1)) == []


@pytest.mark.parametrize("masks", [LONG, LONG // 2])
def test_on_a_terminal_there_is_a_bar(rise: Any, tmp_path: Path, masks: int) -> None:
    done = rise(masks, terminal=True)
    assert done.code == 0, done.err
    assert f"{masks}/{masks}" in done.err
    assert (f"rise: {masks} forward passes" in done.err) == (masks >= LONG)
    assert done.out == f"{tmp_path / 'm.npz'}\n"


def test_an_error_ends_the_bar_and_is_one_line(rise: Any, tmp_path: Path) -> None:
    done = rise(LONG, "--target", "1000", terminal=True)
    assert done.code == 2
    assert "visattn: Class 1000 does not exist" in done.err
    assert not (tmp_path / "m.npz").exists()


def test_the_estimate_comes_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    with shown() as report:
        report("rise", 0, 4000)
        assert capsys.readouterr().err == "rise: 4000 forward passes\n"
        report("rise", 32, 4000)
        report("vit_cx", 0, 92)
        report("rise", 0, 4000)
        report("rise", 0, 8000)
    assert capsys.readouterr().err == "rise: 8000 forward passes\n"
