"""Settings that may be corrected, and mistakes that are found before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gallery_fakes import FakeEngine, photo, settings

from visattn.errors import ConfigError, TargetError
from visattn.gallery import MethodConfig, ModelConfig, Summary, TorchEngine, run_gallery


def run(photos: Path, out: Path, engine: FakeEngine | None = None, **other: Any) -> Summary:
    config = settings(photos, out, **other)
    return run_gallery(config, progress=False, engine=engine or FakeEngine())


def failing(*methods: str) -> FakeEngine:
    return FakeEngine(
        answer=lambda each, method: (
            TargetError("no such class") if method.name in methods else SILENT._map(*model(each))
        )
    )


SILENT = FakeEngine()


def model(each: Any) -> tuple[Any, Any, Any, Any]:
    return ModelConfig(name="fake"), each, MethodConfig(name="bright"), None


@pytest.mark.parametrize(
    "change",
    [
        {"target": 1},
        {"seed": 1, "overlay_size": 100, "style": {"opacity": 0.1}},
        {"methods": [{"name": "bright", "power": 2}, "signed"]},
        {"models": [{"name": "fake", "image_size": 96}]},
    ],
)
def test_after_nothing_but_failures_every_setting_may_be_corrected(
    photos: Path, out: Path, change: dict[str, Any]
) -> None:
    assert run(photos, out, failing("bright", "signed"), target=7).ok == 0
    summary = run(photos, out, FakeEngine(weights="cd" * 32), **{"target": 0, **change})
    assert (summary.ok, summary.failed) == (6, 0)
    record = json.loads((out / "run.json").read_text())["models"]["fake"]
    assert record["methods"]["signed"]["target"] == change.get("target", 0)
    assert record["weights_sha256"] == "cd" * 32


def test_a_failed_method_may_be_corrected_beside_finished_ones(photos: Path, out: Path) -> None:
    assert run(photos, out, failing("signed"), target=7).ok == 3
    with pytest.raises(ConfigError, match="options of bright"):
        run(photos, out, methods=[{"name": "bright", "power": 2}, "signed"], target=1)
    summary = run(photos, out, target=1)
    assert (summary.ok, summary.kept) == (6, 3)
    with pytest.raises(ConfigError, match="target of signed"):
        run(photos, out, target=0)


def test_an_unknown_later_model_writes_nothing(photos: Path, out: Path) -> None:
    engine = FakeEngine(unknown=("second",))
    with pytest.raises(ConfigError, match="second"):
        run(photos, out, engine, models=["fake", "second"])
    assert engine.loaded == []
    assert not out.exists()


def test_a_target_that_fails_for_every_photo_writes_nothing(photos: Path, out: Path) -> None:
    with pytest.raises(ConfigError, match="wrong"):
        run(photos, out, target="wrong")
    assert not out.exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "test_vitt"}, "timm has no model 'test_vitt'"),
        ({"name": "timm:vit_smal_patch16_224"}, "Did you mean 'vit_small_patch16_224'"),
        ({"name": "packaged:dinov2_smal"}, "Did you mean 'dinov2_small'"),
        ({"name": "timmm:test_vit"}, "Did you mean 'timm'"),
        ({"name": "test_vit", "weights": "nowhere.pth"}, "no file nowhere.pth"),
        ({"name": "test_vit", "labels": "nowhere.txt"}, "no file nowhere.txt"),
    ],
)
def test_models_are_checked_without_loading(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        TorchEngine().check_model(ModelConfig.model_validate(wrong))


@pytest.mark.parametrize("name", ["test_vit", "timm:test_vit.r160_in1k", "packaged:dinov2_small"])
def test_right_models_pass(name: str) -> None:
    TorchEngine().check_model(ModelConfig(name=name))


@pytest.mark.parametrize("target", [1000, -1, "no such label", "embeding"])
def test_wrong_targets_are_found_on_a_real_model(target: Any) -> None:
    engine = TorchEngine()
    loaded = engine.load(ModelConfig(name="test_vit", weights=None), "cpu", 0)
    gae, rollout = MethodConfig(name="gae"), MethodConfig(name="rollout")
    with pytest.raises(ConfigError, match="target for gae"):
        engine.check_target(loaded, [rollout, gae], target)
    engine.check_target(loaded, [rollout], target)
    for right in (None, 999, "top5", "embedding", "tench"):
        engine.check_target(loaded, [rollout, gae], right)


def test_a_model_without_classes_asks_for_the_embedding() -> None:
    import timm

    from visattn.models import load_model

    engine = TorchEngine()
    headless = load_model(timm.create_model("test_vit", num_classes=0), device="cpu")
    methods = [MethodConfig(name="rollout"), MethodConfig(name="gae")]
    with pytest.raises(ConfigError, match="target='embedding'"):
        engine.check_target(headless, methods, None)
    engine.check_target(headless, methods, "embedding")
    engine.check_target(headless, methods[:1], None)


def test_other_galleries_below_the_input_are_left_out(photos: Path, out: Path) -> None:
    run(photos, photos / "deep" / "old")
    photo(photos / "deep" / "run" / "a.png")
    (photos / "deep" / "run" / "run.json").write_text("{}")
    assert run(photos, out).ok == 8
    written = (out / "manifest.jsonl").read_text().splitlines()
    images = {json.loads(line)["image"] for line in written}
    assert images == {"cat.jpg", "cat.png", "deep/er/portrait.png", "deep/run/a.png"}


def test_files_of_a_changed_photo_go_with_its_entries(photos: Path, out: Path) -> None:
    run(photos, out, methods=["bright", "signed"])
    photo(photos / "cat.png", spot=(10, 45))
    run(photos, out, methods=["bright"])
    left = {path.relative_to(out).as_posix() for path in out.rglob("*signed*")}
    assert not [path for path in left if "cat.png" in path]
    assert len(left) == 6
    assert (out / "maps/cat.png/fake.bright.npz").is_file()


def test_photos_that_are_gone_are_counted(photos: Path, out: Path) -> None:
    run(photos, out)
    (photos / "cat.png").unlink()
    summary = run(photos, out)
    assert "1 photo is no longer in the folder; its maps are kept" in summary.lines()
    assert (out / "maps/cat.png/fake.bright.npz").is_file()
    (photos / "cat.jpg").unlink()
    words = "2 photos are no longer in the folder; their maps are kept"
    assert words in run(photos, out).lines()
