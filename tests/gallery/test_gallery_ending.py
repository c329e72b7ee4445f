"""How a run ends on a terminal: counts, failures, a full disk, an interrupt."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from gallery_fakes import FakeEngine, settings

from visattn.errors import ConfigError
from visattn.gallery import (
    Entry,
    Manifest,
    Summary,
    UnfinishedError,
    run,
    run_gallery,
    run_on_terminal,
    terminal,
)


def begin(photos: Path, out: Path, engine: FakeEngine | None = None) -> Summary:
    return run_gallery(settings(photos, out), progress=False, engine=engine or FakeEngine())


def full(*_: Any) -> Any:
    raise OSError(28, "No space left on device")


def summary(**numbers: Any) -> Summary:
    return Summary(**{"ok": 0, "failed": 0, "unsupported": 0, "kept": 0, **numbers}, index=Path())


def test_counts_are_said_in_english() -> None:
    assert str(summary(ok=1)) == "1 map"
    assert str(summary(ok=2, unsupported=32)) == "2 maps, 32 maps do not apply"
    assert str(summary(ok=2, failed=3, unsupported=1)) == "2 maps, 3 failed, 1 map does not apply"


def test_a_failure_is_one_line_with_its_photos() -> None:
    failed = [
        Entry(image, None, "m", method, "failed", "no\nclass")
        for image in ("a", "b")
        for method in ("x", "y")
    ]
    failed.append(Entry("c", None, "m", "x", "failed", "torn"))
    lines = Summary.of(failed, 0, Path()).failure_lines()
    assert lines == ["failed (2 photos): no class", "failed (1 photo): torn"]


@pytest.mark.parametrize("place", ["/proc/x1", "/dev/null", "photos/cat.jpg/x", "photos/cat.jpg"])
def test_a_folder_that_cannot_be_made_is_a_wrong_config(photos: Path, place: str) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        begin(photos, photos.parent / place)


def test_a_full_disk_is_one_error_and_the_run_continues(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(run, "write_page", partial(full, "page"))
        with pytest.raises(UnfinishedError, match=r"No space left on device\. Run again"):
            begin(photos, out)
    assert (out / "manifest.jsonl").read_bytes() == b""
    assert begin(photos, out).ok == 6


def test_a_page_that_cannot_be_written_does_not_hide_an_interrupt(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "write_page", full)
    with pytest.raises(KeyboardInterrupt):
        begin(photos, out, FakeEngine(crash=interrupt))
    with pytest.raises(UnfinishedError, match="No space left"):
        begin(photos, out)
    assert json.loads((out / "run.json").read_text())["finished"] is None


def test_a_line_that_does_not_fit_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Manifest(tmp_path / "manifest.jsonl")
    entries = [Entry(name, None, "m", "x", "ok") for name in ("a", "b", "c")]
    with kept.opened() as append:
        append(entries[0])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                append(entries[1])
        append(entries[2])
    assert [each.image for each in kept.read()] == ["a", "c"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted: run again to continue\n"),
        (UnfinishedError("no space"), 1, "visattn: no space\n"),
    ],
)
def test_a_run_that_stops_says_so_without_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    words: str,
) -> None:
    def stop(_: Any) -> Any:
        raise error

    monkeypatch.setattr(terminal, "run_gallery", stop)
    config = settings(Path("photos"), Path("out"))
    assert run_on_terminal(lambda: config) == code
    assert capsys.readouterr() == ("", words)
