from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery_fakes import FakeEngine, bug, no_weights, photo, settings
from PIL import Image as PillowImage

from visattn.atomic import PREFIX
from visattn.errors import CaptureError, ConfigError, ModelError
from visattn.gallery import Entry, Summary, pipeline, run_gallery
from visattn.saliency import SaliencyMap


def run(photos: Path, out: Path, engine: FakeEngine | None = None, **other: Any) -> Summary:
    return run_gallery(
        settings(photos, out, **other), progress=False, engine=engine or FakeEngine()
    )


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def pixels_of(path: Path, mode: str = "RGB") -> Any:
    with PillowImage.open(path) as picture:
        return np.asarray(picture.convert(mode))


def tree(folder: Path) -> dict[str, str]:
    """Return the hash of every file."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_golden_run(photos: Path, out: Path) -> None:
    summary = run(photos, out, models=["fake", "headless"], methods=["bright", "classes_only"])
    assert (summary.ok, summary.failed, summary.unsupported, summary.kept) == (9, 0, 3, 0)
    assert (summary.exit_code, summary.index) == (0, out / "index.html")
    images = ["cat.jpg", "cat.png", "deep/er/portrait.png"]
    wanted = [
        (image, model, method)
        for model in ("fake", "headless")
        for image in images
        for method in ("bright", "classes_only")
    ]
    written = lines(out)
    assert [(each["image"], each["model"], each["method"]) for each in written] == wanted
    first = written[0]
    assert first["map"] == "maps/cat.jpg/fake.bright.npz"
    assert first["overlay"] == "overlays/cat.jpg/fake.bright.png"
    assert (first["height"], first["width"], first["grid"]) == (60, 90, [8, 8])
    digest = hashlib.sha256((photos / "cat.jpg").read_bytes()).hexdigest()
    assert first["sha256"] == digest
    assert first["statistics"]["prefix_mass"] == 0.25
    assert first["statistics"]["outlier_tokens"] is None
    assert (first["target_index"], first["probability"]) == (None, None)
    specific = written[1]
    assert specific["target_label"] in ("cat", "dog")
    assert specific["probability"] in (0.25, 0.75)
    refused = written[-1]
    assert (refused["status"], refused["map"]) == ("unsupported", None)
    assert "headless has none" in refused["error"]
    assert {path.name for path in out.iterdir()} == {
        *("index.html", "run.json", "manifest.jsonl"),
        *("maps", "overlays", "heat", "photos"),
    }


def test_maps_come_back_and_pictures_show_them_in_place(photos: Path, out: Path) -> None:
    run(photos, out, methods=["bright"])
    for line in lines(out):
        saliency = SaliencyMap.load(out / line["map"])
        assert (saliency.method, saliency.model) == ("bright", "fake")
        seen = saliency.on_image()
        pixels = pixels_of(photos / line["image"])
        hottest = np.unravel_index(np.nanargmax(seen), seen.shape)
        assert pixels[hottest].mean() > 200
        heat = pixels_of(out / f"heat/{line['image']}/fake.bright.png", "RGBA")
        assert heat.shape == (*pixels.shape[:2], 4)
        assert heat[hottest][3] > 200
        assert (heat[np.isnan(seen)] == 0).all()
        overlay = pixels_of(out / line["overlay"])
        assert overlay.shape[0] > pixels.shape[0]  # caption and colour bar stand below the photo
        assert abs(overlay[hottest].astype(int) - pixels[hottest]).max() > 40


def test_a_large_photo_is_drawn_smaller_and_its_map_stays_in_place(
    tmp_path: Path, out: Path
) -> None:
    photo(tmp_path / "photos" / "large.png", 300, 450, spot=(90, 225))
    run(tmp_path / "photos", out, methods=["bright"], overlay_size=90)
    (line,) = lines(out)
    assert (line["height"], line["width"]) == (300, 450)
    drawn = pixels_of(out / line["overlay"])[:60, :90].astype(int)
    assert drawn.shape == (60, 90, 3)
    plain = np.full_like(drawn, (20, 40, 30))
    plain[17:20, 44:46] = 250
    row, col = np.unravel_index(np.abs(drawn - plain)[5:55, 20:70].sum(2).argmax(), (50, 50))
    assert abs(row + 5 - 18) <= 4
    assert abs(col + 20 - 45) <= 4


def test_run_json_says_what_made_it(photos: Path, out: Path) -> None:
    run(photos, out, seed=7)
    record = json.loads((out / "run.json").read_text())
    assert record["models"]["fake"]["weights_sha256"] == "ab" * 32
    assert record["models"]["fake"]["facts"]["class"] == "Fake"
    assert record["config"]["seed"] == 7
    assert {"visattn", "torch", "timm", "numpy", "pillow", "python"} == set(record["versions"])
    assert record["started"] <= record["finished"]
    assert record["started"].endswith("+00:00")
    assert record["counts"] == {"ok": 6, "failed": 0, "unsupported": 0, "kept": 0}


def test_batches_are_real_and_do_not_change_a_map(photos: Path, out: Path, tmp_path: Path) -> None:
    together, alone = FakeEngine(), FakeEngine()
    run(photos, out, together, batch_size=2)
    run(photos, tmp_path / "alone", alone, batch_size=1)
    assert together.batches == [("cat.jpg", "cat.png"), ("portrait.png",)]
    assert [len(batch) for batch in alone.batches] == [1, 1, 1]
    maps = [tree(each / "heat") for each in (out, tmp_path / "alone")]
    assert maps[0] == maps[1]


def test_a_second_run_does_nothing(photos: Path, out: Path) -> None:
    run(photos, out, models=["fake", "headless"], methods=["bright", "classes_only"])
    before, engine = tree(out), FakeEngine()
    again = run(
        photos, out, engine, models=["fake", "headless"], methods=["bright", "classes_only"]
    )
    assert engine.loaded == []
    assert tree(out) == before
    assert (again.ok, again.unsupported, again.kept) == (9, 3, 12)


def test_photos_models_and_methods_may_join(photos: Path, out: Path) -> None:
    run(photos, out)
    photo(photos / "new.png")
    engine = FakeEngine()
    summary = run(photos, out, engine, models=["fake", "second"], methods=["bright", "dark"])
    assert engine.loaded == ["fake", "second"]
    assert (summary.ok, summary.kept) == (16, 3)
    keys = [(each["image"], each["model"], each["method"]) for each in lines(out)]
    assert len(keys) == len(set(keys)) == 3 + 16  # the signed maps of the first run stay
    record = json.loads((out / "run.json").read_text())
    assert set(record["models"]["fake"]["methods"]) == {"bright", "signed", "dark"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed: was 0, is now 1"),
        ({"target": 1}, "target of signed for fake: was null, is now 1"),
        ({"models": [{"name": "fake", "image_size": 96}]}, "image_size of fake: was null"),
        ({"models": [{"name": "fake", "weights": None}]}, 'weights of fake: was "pretrained"'),
        ({"methods": [{"name": "bright", "power": 2}]}, "options of bright for fake"),
        ({"style": {"opacity": 0.1}}, "style of bright for fake"),
        ({"overlay_size": 100}, "overlay_size: was 2048"),
    ],
)
def test_other_settings_are_refused_and_nothing_is_written(
    photos: Path, out: Path, change: dict[str, Any], words: str
) -> None:
    run(photos, out)
    before = tree(out)
    with pytest.raises(ConfigError) as caught:
        run(photos, out, **change)
    assert words in str(caught.value)
    assert "--overwrite" in str(caught.value)
    assert tree(out) == before
    assert run(photos, out, overwrite=True, **change).failed == 0


def test_another_input_is_refused(photos: Path, out: Path, tmp_path: Path) -> None:
    run(photos, out)
    photo(tmp_path / "others" / "cat.jpg")
    with pytest.raises(ConfigError, match="input: was"):
        run(tmp_path / "others", out)


def test_a_target_does_not_concern_class_agnostic_methods(photos: Path, out: Path) -> None:
    run(photos, out, methods=["bright"])
    assert run(photos, out, methods=["bright"], target=1).kept == 3


def test_other_weights_under_the_same_name_are_refused(photos: Path, out: Path) -> None:
    run(photos, out)
    photo(photos / "new.png")
    before = tree(out)
    with pytest.raises(ConfigError, match="weights of fake have changed"):
        run(photos, out, FakeEngine(weights="cd" * 32))
    assert tree(out) == before


def test_a_photo_that_changed_is_explained_again(photos: Path, out: Path) -> None:
    run(photos, out)
    photo(photos / "cat.png", spot=(10, 45))
    engine = FakeEngine()
    assert run(photos, out, engine).kept == 4
    assert engine.batches == [("cat.png",)]
    digest = hashlib.sha256((photos / "cat.png").read_bytes()).hexdigest()
    assert {each["sha256"] for each in lines(out) if each["image"] == "cat.png"} == {digest}


def test_a_file_that_was_only_touched_is_kept(photos: Path, out: Path) -> None:
    run(photos, out)
    os.utime(photos / "cat.png")
    engine = FakeEngine()
    assert run(photos, out, engine).kept == 6
    assert engine.loaded == []


@pytest.mark.parametrize("folder", ["maps", "overlays", "heat", "photos"])
def test_a_missing_file_is_made_again(photos: Path, out: Path, folder: str) -> None:
    run(photos, out)
    before = tree(out / folder)
    next((out / folder / "cat.jpg").iterdir()).unlink()
    run(photos, out)
    assert tree(out / folder).keys() == before.keys()


def test_a_bad_photo_does_not_stop_the_others(photos: Path, out: Path) -> None:
    (photos / "a bad one.jpg").write_bytes(b"not a photo")
    (photos / "empty.png").write_bytes(b"")
    summary = run(photos, out)
    assert (summary.ok, summary.failed, summary.exit_code) == (6, 4, 1)
    failed = [each for each in lines(out) if each["status"] == "failed"]
    assert {(each["image"], each["method"]) for each in failed} == {
        (image, method)
        for image in ("a bad one.jpg", "empty.png")
        for method in ("bright", "signed")
    }
    assert "a bad one.jpg: not an image" in failed[0]["error"]
    assert failed[0]["sha256"] == hashlib.sha256(b"not a photo").hexdigest()
    assert len(summary.errors) == 2
    assert "not an image" in (out / "index.html").read_text()


def test_a_failure_is_tried_again_and_replaced(photos: Path, out: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"not a photo")
    run(photos, out)
    assert run(photos, out).failed == 2
    photo(photos / "bad.jpg")
    summary = run(photos, out)
    assert (summary.ok, summary.failed, summary.kept) == (8, 0, 6)
    assert len(lines(out)) == 8


def test_the_failure_of_a_photo_that_is_gone_is_forgotten(photos: Path, out: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"not a photo")
    run(photos, out)
    (photos / "bad.jpg").unlink()
    engine = FakeEngine()
    assert run(photos, out, engine).exit_code == 0
    assert engine.loaded == []
    assert {each["status"] for each in lines(out)} == {"ok"}


def test_a_bug_in_drawing_fails_one_map(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_map = pipeline.draw_map

    def draw(store: Any, key: Any, *rest: Any) -> Entry:
        return bug() if key[0] == "cat.png" and key[2] == "signed" else draw_map(store, key, *rest)

    monkeypatch.setattr(pipeline, "draw_map", draw)
    summary = run(photos, out)
    assert (summary.ok, summary.failed) == (5, 1)
    assert summary.errors == ("ZeroDivisionError: a bug",)


def test_a_bug_in_one_photo_of_a_batch_spares_the_others(photos: Path, out: Path) -> None:
    engine = FakeEngine(crash=lambda names, _: bug() if "cat.png" in names else None)
    summary = run(photos, out, engine)
    assert (summary.ok, summary.failed) == (4, 2)
    assert {each["image"] for each in lines(out) if each["status"] == "failed"} == {"cat.png"}


def test_a_bug_in_one_method_spares_the_others(photos: Path, out: Path) -> None:
    engine = FakeEngine(crash=lambda _, methods: bug() if "signed" in methods else None)
    summary = run(photos, out, engine)
    assert (summary.ok, summary.failed) == (3, 3)
    assert {each["method"] for each in lines(out) if each["status"] == "failed"} == {"signed"}


def test_an_error_that_a_batch_shares_is_tried_photo_by_photo(photos: Path, out: Path) -> None:
    engine = FakeEngine()
    plain = engine.explain

    def explain(model: Any, prepared: Any, methods: Any, target: Any, seed: int) -> Any:
        found = plain(model, prepared, methods, target, seed)
        if any(each.image.path.name == "cat.png" for each in prepared):
            return [[CaptureError("not proven")] * len(methods) for _ in prepared]
        return found

    engine.explain = explain  # type: ignore[method-assign]
    summary = run(photos, out, engine)
    assert (summary.ok, summary.failed) == (4, 2)


def test_a_later_model_that_cannot_be_loaded_is_listed(photos: Path, out: Path) -> None:
    engine = FakeEngine(broken={"second": no_weights()})
    summary = run(photos, out, engine, models=["fake", "second", "third"])
    assert (summary.ok, summary.failed) == (12, 6)
    assert summary.errors == ("the weights of second are not here",)
    assert run(photos, out, models=["fake", "second", "third"]).ok == 18


def test_a_first_model_that_cannot_be_loaded_leaves_nothing(photos: Path, out: Path) -> None:
    engine = FakeEngine(broken={"fake": no_weights()})
    with pytest.raises(ModelError):
        run(photos, out / "deeper", engine)
    assert not out.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"methods": ["brihgt"]},
        {"style": {"opacty": 1}},
        {"methods": [{"name": "bright", "style": {"colormap": "viridsi"}}]},
        {"input": "nowhere"},
    ],
)
def test_a_wrong_config_writes_nothing(photos: Path, out: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        run(**{"photos": photos, "out": out, **wrong})
    assert not out.exists()


def test_a_folder_without_photos_is_refused(tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no photo in"):
        run(tmp_path / "empty", out)
    assert not out.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_foreign_folder_is_never_touched(photos: Path, out: Path, overwrite: bool) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"not empty and not a gallery .*thesis\.txt"):
        run(photos, out, overwrite=overwrite)
    assert {path.name for path in out.iterdir()} == {"thesis.txt"}


@pytest.mark.parametrize("text", ['{"runs": 3}', "[1]", "no json"])
def test_a_foreign_run_json_is_never_touched(photos: Path, out: Path, text: str) -> None:
    out.mkdir()
    (out / "run.json").write_text(text)
    with pytest.raises(ConfigError, match=r"run\.json"):
        run(photos, out, overwrite=True)
    assert {path.name for path in out.iterdir()} == {"run.json"}


def test_the_input_itself_is_no_gallery(photos: Path) -> None:
    before = tree(photos)
    with pytest.raises(ConfigError, match="not a gallery"):
        run(photos, photos, overwrite=True)
    assert tree(photos) == before


def test_a_gallery_inside_its_input_is_not_explained(photos: Path) -> None:
    out = photos / "gallery"
    assert run(photos, out).ok == 6
    assert run(photos, out).kept == 6


def test_overwrite_computes_again_and_keeps_foreign_files(photos: Path, out: Path) -> None:
    run(photos, out)
    (out / "maps" / "notes.txt").write_text("mine")
    (photos / "cat.jpg").unlink()
    engine = FakeEngine()
    summary = run(photos, out, engine, overwrite=True)
    assert (summary.ok, summary.kept, engine.loaded) == (4, 0, ["fake"])
    assert (out / "maps" / "notes.txt").read_text() == "mine"
    for folder in ("maps", "overlays", "heat", "photos"):
        assert not (out / folder / "cat.jpg").exists()


def test_overwrite_gets_over_a_broken_manifest(photos: Path, out: Path) -> None:
    run(photos, out)
    path = out / "manifest.jsonl"
    path.write_text("{broken\n" + path.read_text())
    with pytest.raises(ConfigError, match="line 1"):
        run(photos, out)
    assert run(photos, out, overwrite=True).ok == 6
    assert len(lines(out)) == 6


def test_leftovers_of_a_killed_run_go(photos: Path, out: Path) -> None:
    run(photos, out)
    record = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**record, "finished": None}))
    for place in (out, out / "maps" / "cat.jpg"):
        (place / f"{PREFIX}half.npz").write_bytes(b"x")
    engine = FakeEngine()
    run(photos, out, engine)
    assert engine.loaded == []
    assert not [path for path in out.rglob("*") if path.name.startswith(PREFIX)]
    assert json.loads((out / "run.json").read_text())["finished"]


def test_limit_takes_the_first_photos_and_the_rest_may_follow(photos: Path, out: Path) -> None:
    assert run(photos, out, limit=1).ok == 2
    assert {each["image"] for each in lines(out)} == {"cat.jpg"}
    summary = run(photos, out)
    assert (summary.ok, summary.kept) == (6, 2)


def test_a_failure_outside_a_limited_run_stays_listed(photos: Path, out: Path) -> None:
    (photos / "zebra.jpg").write_bytes(b"bad")
    run(photos, out)
    assert run(photos, out, limit=1).exit_code == 0
    assert [each["image"] for each in lines(out)].count("zebra.jpg") == 2


def test_no_signal_is_said(photos: Path, out: Path) -> None:
    run(photos, out, methods=["flat"])
    for line in lines(out):
        assert line["warnings"] == ["no signal: all cells are zero"]
        assert line["statistics"]["entropy"] is None


def test_an_interrupt_keeps_what_is_done_and_writes_the_page(photos: Path, out: Path) -> None:
    def interrupt(names: tuple[str, ...], _: Any) -> None:
        if "portrait.png" in names:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(photos, out, FakeEngine(crash=interrupt), batch_size=1)
    assert [each["image"] for each in lines(out)] == ["cat.jpg"] * 2 + ["cat.png"] * 2
    assert "cat.png" in (out / "index.html").read_text()
    assert json.loads((out / "run.json").read_text())["finished"] is None
    summary = run(photos, out)
    assert (summary.ok, summary.kept) == (6, 4)


def test_two_runs_never_write_to_one_folder(photos: Path, out: Path) -> None:
    def second(*_: Any) -> None:
        with pytest.raises(ConfigError, match="Another run"):
            run(photos, out)

    assert run(photos, out, FakeEngine(crash=second)).ok == 6


def test_every_photo_has_its_own_files(tmp_path: Path, out: Path) -> None:
    names = ["a/x.png", "b/x.png", "x.png", "x.jpg", "x.png.jpg", "a.x/png.png"]
    for name in names:
        photo(tmp_path / "photos" / name)
    run(tmp_path / "photos", out, models=["hf:a/b", "hf:a_b"], methods=["bright"])
    written = lines(out)
    for key in ("map", "overlay"):
        paths = [each[key] for each in written]
        assert len(set(paths)) == len(paths) == 2 * len(names)
        assert all((out / path).is_file() for path in paths)
