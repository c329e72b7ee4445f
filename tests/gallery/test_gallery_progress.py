"""What is told of methods with many passes while a gallery is made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from gallery_fakes import FakeEngine, photo

from visattn.gallery import GalleryConfig, run_gallery
from visattn.progress import progress


def work(*_: Any) -> None:
    """Stand for a long method and a short one."""
    for done in (0, 2000, 4000):
        progress("rise", done, 4000)
    progress("vit_cx", 0, 92)


@pytest.fixture
def config(tmp_path: Path) -> GalleryConfig:
    for name in ("a", "b", "c"):
        photo(tmp_path / "in" / f"{name}.png")
    return GalleryConfig(
        input=tmp_path / "in",
        out=tmp_path / "out",
        models=["one", "two"],
        methods=["bright"],
        batch_size=1,
    )


def test_a_long_method_is_announced_once_per_model(
    config: GalleryConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run_gallery(config, engine=FakeEngine(crash=work))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "rise: 4000 forward passes for the first batch of photos\n" * 2


def test_a_terminal_shows_the_passes_beside_the_maps(
    config: GalleryConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    run_gallery(config, engine=FakeEngine(crash=work))
    err = capsys.readouterr().err
    assert err.count("rise: 4000 forward passes for the first batch of photos") == 2
    assert "vit_cx 0/92" in err
    assert "6/6" in err


def test_a_silent_run_stays_silent(
    config: GalleryConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    run_gallery(config, progress=False, engine=FakeEngine(crash=work))
    assert capsys.readouterr() == ("", "")
