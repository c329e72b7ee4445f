"""The sweep over timm: one line per architecture, and a run that was stopped goes on."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "sweep_architectures.py"


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("sweep_architectures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(sweep: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["sweep", *options])
    assert sweep.main() == 0


def test_it_lists_summarises_and_goes_on(
    sweep: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["test_resnet", "test_vit", "test_vit2"]
    monkeypatch.setattr(sweep.timm, "list_models", lambda: names)
    out = tmp_path / "new" / "list.jsonl"
    run(sweep, monkeypatch, "--out", str(out), "--match", "test_vit2")
    assert [json.loads(line)["architecture"] for line in out.read_text().splitlines()] == names[2:]
    run(sweep, monkeypatch, "--out", str(out))
    found = {line["architecture"]: line for line in sweep.lines(out)}
    assert sorted(found) == sorted(names)
    assert found["test_vit"]["kinds"] == {"token fused": found["test_vit"]["operations"]}
    assert found["test_resnet"]["operations"] == 0
    said = capsys.readouterr()
    assert "1/2 test_resnet" in said.err
    assert "3 architectures, 2 with attention operations" in said.out
    before = out.read_text()
    run(sweep, monkeypatch, "--out", str(out), "--match", "vit", "--summary")
    assert "2 architectures, 2 with attention operations" in capsys.readouterr().out
    assert out.read_text() == before


def test_what_cannot_run_on_meta_is_said(
    sweep: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = sweep.counted

    def failing(name: str, device: str) -> object:
        if device == "meta":
            raise NotImplementedError("planned")
        return real(name, device)

    monkeypatch.setattr(sweep, "counted", failing)
    line = sweep.examined("test_vit")
    assert line["device"] == "cpu"
    assert line["problems"] == ["meta: NotImplementedError: planned"]
    sweep.summarise([line])
    assert "could not run on the meta device: test_vit (cpu)" in capsys.readouterr().out
    monkeypatch.setattr(sweep, "DEVICES", ("meta",))
    assert sweep.examined("test_vit")["error"] == "meta: NotImplementedError: planned"
