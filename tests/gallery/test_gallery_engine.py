"""The gallery with visattn's own engine, on a small network with random weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from visattn.errors import ConfigError
from visattn.gallery import MethodConfig, ModelConfig, TorchEngine, load_config, run_gallery
from visattn.saliency import SaliencyMap

ROOT = Path(__file__).parents[2]
SMALL = {"name": "test_vit", "weights": None}


def config(photos: Path, out: Path, **other: Any) -> Any:
    given = {"input": photos, "out": out, "models": [SMALL], "methods": ["rollout", "gae"]}
    return load_config(overrides={**given, **other})


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def test_random_weights_come_from_the_seed_and_torch_is_left_alone() -> None:
    engine, model = TorchEngine(), ModelConfig.model_validate(SMALL)
    before = torch.get_rng_state()
    hashes = [engine.load(model, "cpu", seed).weights_sha256 for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert torch.equal(before, torch.get_rng_state())


def test_unknown_methods_and_options_are_config_errors() -> None:
    engine = TorchEngine()
    with pytest.raises(ConfigError, match="Did you mean 'rollout'"):
        engine.check(MethodConfig(name="rolout"))
    with pytest.raises(ConfigError, match="'residul'"):
        engine.check(MethodConfig(name="rollout", options={"residul": 0.1}))
    assert engine.class_specific("gae")
    assert not engine.class_specific("rollout")


def test_auto_is_what_it_stands_for_with_each_model(photos: Path, out: Path) -> None:
    models = ["reference:vit", "reference:cbam", "packaged:dinov2_small"]
    run_gallery(config(photos, out, models=models, methods=["auto"], limit=1), progress=False)
    assert {line["method"] for line in lines(out)} == {"auto"}
    found = {line["model"]: SaliencyMap.load(out / line["map"]) for line in lines(out)}
    assert {name: each.method for name, each in found.items()} == {
        "reference:vit": "cp_lrp",
        "reference:cbam": "gradcam",
        "packaged:dinov2_small": "rollout",
    }
    changed = found["reference:vit"].provenance["changed"]
    assert changed["readout"] == "tokens"
    assert found["packaged:dinov2_small"].target is None
    assert {line["model"]: line["statistics"]["method"] for line in lines(out)} == {
        name: each.method for name, each in found.items()
    }


def test_auto_goes_on_only_with_the_method_it_stood_for(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"models": ["reference:vit"], "methods": ["auto"]}
    run_gallery(config(photos, out, limit=1, **chosen), progress=False)
    before = lines(out)
    monkeypatch.setattr(TorchEngine, "automatic", lambda *_: "gae")
    with pytest.raises(ConfigError, match="auto stood for cp_lrp with reference:vit when"):
        run_gallery(config(photos, out, **chosen), progress=False)
    assert lines(out) == before
    monkeypatch.undo()
    assert run_gallery(config(photos, out, **chosen), progress=False).ok == 3


def test_auto_takes_no_options() -> None:
    engine = TorchEngine()
    engine.check(MethodConfig(name="auto"))
    with pytest.raises(ConfigError, match="auto has no options, but start_layer was given"):
        engine.check(MethodConfig(name="auto", options={"start_layer": 1}))


def test_a_real_run(photos: Path, out: Path) -> None:
    methods = ["rollout", "gae", "random", "gradcam_of_nothing"]
    with pytest.raises(ConfigError, match="gradcam_of_nothing"):
        run_gallery(config(photos, out, methods=methods), progress=False)
    assert not out.exists()
    summary = run_gallery(config(photos, out, methods=methods[:3], target=3), progress=False)
    assert (summary.ok, summary.exit_code) == (9, 0)
    for line in lines(out):
        saliency = SaliencyMap.load(out / line["map"])
        assert list(saliency.grid.shape) == line["grid"]
        assert line["target_index"] == (3 if line["method"] == "gae" else None)
        assert saliency.provenance["image"]["sha256"] == line["sha256"]
    record = json.loads((out / "run.json").read_text())
    stored = record["models"]["test_vit"]
    assert stored["weights_sha256"] == stored["facts"]["weights_sha256"]


def test_batch_is_single(photos: Path, out: Path, tmp_path: Path) -> None:
    for folder, size in ((out, 3), (tmp_path / "single", 1)):
        run_gallery(config(photos, folder, batch_size=size), progress=False)
    for one, other in zip(lines(out), lines(tmp_path / "single"), strict=True):
        together = SaliencyMap.load(out / one["map"]).grid
        alone = SaliencyMap.load(tmp_path / "single" / other["map"]).grid
        assert abs(together - alone).max() <= 1e-5 * abs(alone).max()


def test_the_seed_reaches_methods_that_draw_lots(photos: Path, tmp_path: Path) -> None:
    grids = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        run_gallery(config(photos, out, methods=["random"], seed=seed, limit=1), progress=False)
        grids.append(SaliencyMap.load(out / lines(out)[0]["map"]).grid)
    assert abs(grids[0] - grids[1]).max() > 0.1


def script(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "export_gallery.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_script_with_every_flag(photos: Path, out: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text("models:\n  - {name: test_vit, weights: null}\nbatch_size: 3\n")
    flags = ["--model", "test_vit", "--method", "rollout", "--method", "gae", "--out", out]
    flags += ["--config", path, "--target", "7", "--batch-size", 2, "--device", "cpu"]
    flags += ["--workers", 1, "--limit", 2]
    done = script(photos, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["4 maps", str(out / "index.html")]
    assert {line["target_index"] for line in lines(out)} == {None, 7}
    again = script(photos, *flags)
    assert again.stdout.startswith("4 maps (4 from an earlier run)")
    fresh = script(photos, *flags, "--overwrite")
    assert fresh.stdout.startswith("4 maps\n")


def test_random_weights_and_clips_from_the_command_line(photos: Path, out: Path) -> None:
    flags = ["--model", "test_vit", "--weights", "random", "--method", "center", "--limit", 1]
    done = script(photos, *flags, "--fps", 2, "--smoothing", 0.5, "--max-frames", 9, "--out", out)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "run.json").read_text())
    assert record["models"]["test_vit"]["settings"]["weights"] is None
    assert record["clips"] == {"fps": 2.0, "smoothing": 0.5, "max_frames": 9}


def test_the_script_tells_failures_from_wrong_commands(photos: Path, out: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"bad")
    path = photos.parent / "small.yaml"
    path.write_text("models: [{name: test_vit, weights: null}]\nmethods: center\n")
    failed = script(photos, "--config", path, "--out", out)
    assert (failed.returncode, "bad.jpg" in failed.stderr) == (1, True)
    other = out.parent / "other"
    wrong = script(photos, "--config", path, "--out", other, "--method", "centre")
    assert wrong.returncode == 2
    assert "Did you mean 'center'?" in wrong.stderr
    assert not other.exists()


def test_importing_the_gallery_loads_no_torch() -> None:
    code = "import sys, visattn.gallery; print({'torch', 'matplotlib', 'cv2'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "set()"
