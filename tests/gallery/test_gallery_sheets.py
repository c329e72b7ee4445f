"""Contact sheets of the layers and heads of photos in a stored gallery."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery_fakes import photo
from PIL import Image as PillowImage
from test_gallery_page import opened
from typer.testing import CliRunner, Result

import visattn
from visattn.cli import export_attention
from visattn.cli.app import build
from visattn.errors import ConfigError
from visattn.gallery import load_config, run_gallery
from visattn.gallery.again import chosen_photos, recorded_model

MODEL = "test_vit"
NAME = 'it\'s "a" <b>bee.png'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of two photos and a moving image, of a transformer and a convolutional network."""
    root = tmp_path_factory.mktemp("sheets")
    photo(root / "in" / "ant.png", 120, 160)
    photo(root / "in" / "deep" / NAME, 120, 160, (60, 40))
    still = PillowImage.new("RGB", (64, 48), "white")
    other = PillowImage.new("RGB", (64, 48), "black")
    still.save(root / "in" / "moving.gif", save_all=True, append_images=[other], duration=250)
    given: dict[str, Any] = {
        "input": root / "in",
        "out": root / "out",
        "models": [{"name": MODEL, "weights": None}, "reference:cbam"],
        "methods": ["center"],
        "workers": 1,
    }
    run_gallery(load_config(overrides=given), progress=False)
    return root


@pytest.fixture
def gallery(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def export(gallery: Path, *words: str) -> Result:
    return CliRunner().invoke(build(), ["export", str(gallery), *words])


def test_a_sheet_shows_the_maps_that_explain_gives(
    gallery: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are random: only those drawn from the gallery's seed give its maps."""
    shown: list[Any] = []
    real = export_attention._write

    def write(place: Path, image: str, maps: Any) -> None:
        shown.append([each for row in maps for each in row])
        real(place, image, maps)

    monkeypatch.setattr(export_attention, "_write", write)
    done = export(gallery, "--sheet", "layers", "--photo", "ant.png", "--model", MODEL)
    assert done.exit_code == 0, done.output
    place = gallery / "sheets" / "ant.png" / "test_vit.layers.png"
    assert done.stdout.split() == [str(place)]
    (maps,) = shown
    record = json.loads((gallery / "run.json").read_text())
    model = recorded_model(record, MODEL)
    depth = len(model.module.blocks)
    assert len(maps) == depth
    for layer, each in enumerate(maps):
        (wanted,) = visattn.explain(
            model, made / "in" / "ant.png", method="attention", layers=layer
        )
        assert np.array_equal(each.grid, wanted.grid)
    with PillowImage.open(place) as picture:
        assert picture.width > 1000
    export(gallery, "--sheet", "heads", "--photo", "ant.png", "--model", MODEL)
    heads = model.module.blocks[0].attn.num_heads
    assert len(shown[1]) == depth * heads
    export(gallery, "--sheet", "heads", "--layer", "-1", "--photo", "ant.png", "--model", MODEL)
    assert len(shown[2]) == heads
    beside = {path.name for path in place.parent.iterdir()}
    assert beside == {f"test_vit.{each}.png" for each in ("layers", "heads", "heads.layer-1")}


def test_the_same_sheet_has_the_same_bytes(gallery: Path) -> None:
    place = gallery / "sheets" / "deep" / NAME / "test_vit.layers.png"
    words = ("--sheet", "layers", "--photo", f"deep/{NAME}", "--model", MODEL)
    export(gallery, *words)
    first = place.read_bytes()
    export(gallery, *words)
    assert place.read_bytes() == first


def test_what_has_no_sheet_is_listed(gallery: Path) -> None:
    done = export(gallery, "--sheet", "layers")
    assert done.exit_code == 1
    assert len(done.stdout.split("\n")) - 1 == 2
    assert "left out, a clip: moving.gif" in done.stderr
    assert done.stderr.count("left out: reference:cbam has no layers to choose from") == 1


def test_other_weights_are_refused(gallery: Path) -> None:
    record = json.loads((gallery / "run.json").read_text())
    record["seed"] = 1
    (gallery / "run.json").write_text(json.dumps(record))
    done = export(gallery, "--sheet", "layers", "--model", MODEL)
    assert done.exit_code != 0
    assert "are not those of this gallery" in str(done.exception)
    assert not (gallery / "sheets").exists()


def test_a_photo_that_changed_is_left_out(gallery: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "in", tmp_path / "moved")
    photo(tmp_path / "moved" / "ant.png", 90, 160)
    found = chosen_photos(gallery, models=[MODEL], folder=tmp_path / "moved")
    assert list(found.photos[MODEL]) == [f"deep/{NAME}"]
    assert "ant.png is gone or changed; --photos" in found.failures["ant.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--sheet", "layers", "--photo", "ant.pgn"), "Did you mean 'ant.png'"),
        (("--sheet", "layers", "--photo", "moving.gif"), "only clips"),
        (("--sheet", "layers", "--layer", "1"), "a sheet of layers shows all"),
        (("--sheet", "heads", "--layer", "1.5"), "--layer '1.5'"),
        (("--sheet", "heads", "--layer", "99"), "99"),
        (("--sheet", "layers", "--coco", "m.json"), "two exports"),
        (("--sheet", "s.png", "--photo", "ant.png"), "are for --sheet layers"),
        (("--sheet", "layers", "--model", "reference:cbam"), "has no layers to choose from"),
    ],
)
def test_wrong_wishes_write_nothing(gallery: Path, words: tuple[str, ...], message: str) -> None:
    done = export(gallery, *words)
    assert done.exit_code != 0
    assert message in str(done.exception), done.exception
    assert not (gallery / "sheets").exists()


def test_a_new_photo_takes_its_old_sheet_away(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "in", tmp_path / "in")
    (tmp_path / "in" / "moving.gif").unlink()
    given: dict[str, Any] = {
        "input": tmp_path / "in",
        "out": tmp_path / "out",
        "models": [{"name": MODEL, "weights": None}],
        "methods": ["center"],
    }
    run_gallery(load_config(overrides=given), progress=False)
    export(tmp_path / "out", "--sheet", "layers")
    export(tmp_path / "out", "--sheet", "heads", "--layer", "-1")
    assert len(list((tmp_path / "out" / "sheets").rglob("test_vit.*.png"))) == 4
    photo(tmp_path / "in" / "ant.png", 90, 160)
    run_gallery(load_config(overrides=given), progress=False)
    left = list((tmp_path / "out" / "sheets").rglob("test_vit.*.png"))
    assert [path.parent.name for path in left] == [NAME, NAME]


def test_the_page_has_the_command_to_copy(gallery: Path, browser: Any) -> None:
    import shlex

    page = opened(browser, gallery / "index.html")
    page.locator(".card", has=page.get_by_role("heading", name="bee")).locator(
        ".tile"
    ).first.click()
    page.get_by_text("All layers or heads on a sheet").click()
    layers, heads = page.locator(".command code").all_inner_texts()
    wanted = ["visattn", "export", str(gallery), "--sheet", "layers", "--photo", f"deep/{NAME}"]
    assert shlex.split(layers) == [*wanted, "--model", MODEL]
    assert "--sheet heads" in heads
    done = CliRunner().invoke(build(), shlex.split(layers)[1:])
    assert done.exit_code == 0, done.output
    page.keyboard.press("ArrowRight")
    assert page.locator("#about .command").count() == 0  # a network without attention
    assert page.seen == []
    page.close()


def test_a_folder_that_is_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no gallery"):
        chosen_photos(tmp_path)
