"""``visattn models``, ``methods`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_command import Command

import visattn
from visattn.cli import doctor


def test_models_lists_every_name_that_can_be_loaded(visattn_command: Command) -> None:
    done = visattn_command("models")
    assert done.code == 0
    assert done.out.splitlines() == visattn.list_models()
    known = {"packaged:dinov2_small", "packaged:efficientnet_lite0", "test_vit"}
    assert known | {"torchvision:swin_t"} <= set(done.out.split())


def test_models_of_open_clip_are_listed_when_they_are_asked_for(visattn_command: Command) -> None:
    pytest.importorskip("open_clip")
    assert "open_clip:ViT-B-16" in visattn_command("models", "open_clip:ViT*").out.split()


def test_models_takes_a_pattern(visattn_command: Command) -> None:
    names = visattn_command("models", "*dinov2*").out.split()
    assert "packaged:dinov2_small" in names
    assert len(names) > 4
    assert all("dinov2" in name for name in names)


@pytest.mark.parametrize("pattern", ["no-such-thing", "dinov2"])
def test_a_pattern_without_a_match_is_refused_with_a_wider_one(
    visattn_command: Command, pattern: str
) -> None:
    done = visattn_command("models", pattern)
    assert (done.code, done.out) == (2, "")
    assert f"'*{pattern}*'" in done.err


def test_methods_has_one_line_for_each(visattn_command: Command) -> None:
    done = visattn_command("methods")
    assert done.code == 0
    header, *lines = done.out.splitlines()
    assert header.split()[0] == "method"
    assert [line.split()[0] for line in lines] == visattn.list_methods()
    by_name = {line.split()[0]: line for line in lines}
    assert "a target" in by_name["gae"]
    assert "ICCV 2021" in by_name["gae"]
    assert "the model" in by_name["rollout"]
    assert "Abnar" in by_name["rollout"]


def test_the_doctor_finds_nothing_wrong_here(
    visattn_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VISATTN_CACHE", str(tmp_path / "cache"))
    done = visattn_command("doctor")
    assert done.code == 0, done.out
    assert "FAILS" not in done.out
    assert "operations observed, outputs identical bit for bit" in done.out
    assert str(tmp_path / "cache") in done.out
    assert not (tmp_path / "cache").exists(), "a diagnosis writes nothing"


@pytest.mark.parametrize("check", ["_opencv", "_device", "_cache", "_pip", "_capture"])
def test_whatever_is_broken_the_doctor_says_so_and_goes_on(
    visattn_command: Command, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    def broken() -> str:
        raise OSError("libGL.so.1 is missing")

    monkeypatch.setattr(doctor, "_capture", lambda: "fine")
    monkeypatch.setattr(doctor, check, broken)
    done = visattn_command("doctor")
    assert done.code == 1
    assert "FAILS: OSError: libGL.so.1 is missing" in done.out
    assert done.out.count("FAILS") == 1
    for title in ("cv2", "device", "weights cache", "pip", "capture"):
        assert f"\n{title} " in done.out
