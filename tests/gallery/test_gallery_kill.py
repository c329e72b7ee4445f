from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from gallery_fakes import FakeEngine, photo, settings

from visattn.atomic import PREFIX
from visattn.gallery import run_gallery
from visattn.saliency import SaliencyMap

SCRIPT = Path(__file__).with_name("gallery_fakes.py")
PHOTOS, LINES = 5, 30


def run_until(photos: Path, out: Path, word: str, count: int) -> bool:
    """Run in a process of its own and kill it at a step; return whether it ended before."""
    command = [sys.executable, str(SCRIPT), str(photos), str(out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        for line in process.stdout:
            count -= line.strip() == word
            if count == 0:
                process.kill()
                break
            process.stdin.write("\n")
            process.stdin.flush()
        return process.wait() == 0


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("after line", 1),
        ("before line", 2),
        ("before map", 7),
        ("after map", 12),
        ("before photo", 2),
        ("after line", 17),
        ("after line", LINES),
        ("before page", 1),
        ("after page", 1),
    ],
)
def test_a_killed_run_continues_without_loss_or_duplicates(
    tmp_path: Path, word: str, count: int
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in range(PHOTOS):
        photo(photos / f"{number}.png")
    assert not run_until(photos, out, word, count)
    assert run_until(photos, out, "never", 1)
    entries = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    keys = {(each["image"], each["model"], each["method"]) for each in entries}
    assert len(entries) == len(keys) == LINES
    assert sum(each["status"] == "ok" for each in entries) == LINES - PHOTOS
    for each in entries:
        if each["status"] == "ok":
            SaliencyMap.load(out / each["map"])
            assert (out / each["overlay"]).is_file()
    assert not [path for path in out.rglob("*") if path.name.startswith(PREFIX)]
    assert json.loads((out / "run.json").read_text())["finished"]


def test_killed_again_and_again_it_still_arrives(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    for number in range(PHOTOS):
        photo(photos / f"{number}.png")
    runs = 1
    while not run_until(photos, out, "after line", 9):
        runs += 1
        assert runs < 10
    assert runs == LINES // 9 + 1
    assert len((out / "manifest.jsonl").read_text().splitlines()) == LINES


def test_a_torn_line_is_made_again(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photo(photos / "a.png")
    run_gallery(settings(photos, out), progress=False, engine=FakeEngine())
    path = out / "manifest.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-20])
    summary = run_gallery(settings(photos, out), progress=False, engine=FakeEngine())
    assert (summary.ok, summary.kept) == (2, 1)
    assert len(path.read_text().splitlines()) == 2
