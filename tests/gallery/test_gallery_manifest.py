from __future__ import annotations

import json
from pathlib import Path

import pytest

from visattn.errors import ConfigError
from visattn.gallery import Entry, Manifest

KEYS = [
    *("image", "sha256", "model", "method", "status", "error", "map", "overlay", "height", "width"),
    *("grid", "target_index", "target_label", "probability", "statistics", "warnings", "seconds"),
]


def entry(image: str = "a.jpg", status: str = "ok", **other: object) -> Entry:
    return Entry(image, "00", "m", "rollout", status, **other)  # type: ignore[arg-type]


def test_a_line_has_the_public_keys_and_comes_back() -> None:
    line = entry("ünï\n\udc80.jpg", grid=(3, 5), warnings=("w",), probability=0.5).line()
    assert list(json.loads(line)) == KEYS
    assert line.count("\n") == 1
    assert line.isascii()
    assert Entry.parse(line) == entry(
        "ünï\n\udc80.jpg", grid=(3, 5), warnings=("w",), probability=0.5
    )


def test_nan_never_reaches_the_file() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        entry(probability=float("nan")).line()


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_does_not_count(tmp_path: Path, cut: int) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    text = entry("a.jpg").line() + entry("b.jpg").line()
    manifest.path.write_text(text[:-cut])
    assert [each.image for each in manifest.read()] == ["a.jpg"]


def test_of_two_lines_with_one_key_the_later_counts(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    manifest.rewrite([entry(status="failed"), entry("b.jpg"), entry(status="ok")])
    assert [(each.image, each.status) for each in manifest.read()] == [
        ("a.jpg", "ok"),
        ("b.jpg", "ok"),
    ]


@pytest.mark.parametrize("line", ["{", "[]", "{}", "null", '{"image": "a"}', "\xff"])
def test_a_broken_line_in_the_middle_is_named(tmp_path: Path, line: str) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    text = entry().line() + line + "\n" + entry("b.jpg").line()
    manifest.path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="line 2 is not a manifest entry"):
        manifest.read()
    assert [each.image for each in manifest.read(lenient=True)] == ["a.jpg", "b.jpg"]


def test_append_is_on_disk_at_once(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path / "manifest.jsonl")
    with manifest.opened() as append:
        for name in ("a.jpg", "b.jpg"):
            append(entry(name))
            assert manifest.read()[-1].image == name
