"""A stored gallery is drawn again, from its maps alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery_fakes import FakeEngine, photo, settings
from PIL import Image as PillowImage

from visattn.errors import ConfigError
from visattn.gallery import drawing, render, render_gallery, run_gallery
from visattn.saliency import SaliencyMap


@pytest.fixture
def gallery(photos: Path, out: Path) -> Path:
    make(photos, out)
    return out


def make(photos: Path, out: Path, **other: Any) -> None:
    engine = FakeEngine()
    methods = ["bright", "signed", "flat"]
    run_gallery(settings(photos, out, methods=methods, **other), progress=False, engine=engine)


def lines(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    found = map(json.loads, (out / "manifest.jsonl").read_text().splitlines())
    return {(each["image"], each["method"]): each for each in found}


def files(out: Path, *folders: str) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for folder in folders
        for path in (out / folder).rglob("*")
        if path.is_file()
    }


def pixels_of(path: Path) -> Any:
    with PillowImage.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def page_methods(out: Path) -> set[str]:
    text = (out / "index.html").read_text(encoding="utf-8")
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    return {each["method"] for entry in data["photos"] for each in entry["maps"]}


def test_without_changes_everything_is_as_it_was(gallery: Path) -> None:
    before = files(gallery, "overlays", "heat", "maps", "photos"), lines(gallery)
    record = json.loads((gallery / "run.json").read_text())
    done = render_gallery(gallery)
    assert (done.drawn, done.copies, dict(done.failures), done.exit_code) == (9, (), {}, 0)
    assert (files(gallery, "overlays", "heat", "maps", "photos"), lines(gallery)) == before
    assert json.loads((gallery / "run.json").read_text()) == record


def test_another_colormap_colours_the_hottest_cell_and_moves_nothing(gallery: Path) -> None:
    heat = pixels_of(gallery / "heat/cat.jpg/fake.bright.png")
    render_gallery(gallery, {"colormap": "Greens", "opacity": 1.0})
    after = pixels_of(gallery / "heat/cat.jpg/fake.bright.png")
    saliency = SaliencyMap.load(gallery / "maps/cat.jpg/fake.bright.npz")
    hottest = np.unravel_index(np.nanargmax(saliency.on_image()), heat.shape[:2])
    assert tuple(after[hottest]) == (0, 68, 27)  # the dark end of Greens
    assert tuple(heat[hottest]) != (0, 68, 27)
    assert tuple(pixels_of(gallery / "overlays/cat.jpg/fake.bright.png")[hottest]) == (0, 68, 27)
    assert lines(gallery)["cat.jpg", "bright"]["statistics"]["colormap"] == "Greens"
    record = json.loads((gallery / "run.json").read_text())
    assert record["models"]["fake"]["methods"]["signed"]["style"]["colormap"] == "Greens"
    assert record["config"]["style"]["opacity"] == 1.0


def test_on_a_shared_scale_equal_values_have_equal_colours(gallery: Path) -> None:
    render_gallery(gallery, scale="shared", methods=["bright"])
    maps = {name: SaliencyMap.load(gallery / f"maps/{name}/fake.bright.npz") for name in IMAGES}
    cells = np.stack([each.grid for each in maps.values()])
    for name, each in maps.items():
        scale = lines(gallery)[name, "bright"]["statistics"]["scale"]
        assert scale == pytest.approx([cells.min(), cells.max()])
        heat = np.asarray(PillowImage.open(gallery / f"heat/{name}/fake.bright.png"))
        seen = each.on_image()
        place = np.unravel_index(np.nanargmax(seen), seen.shape)
        drawn = (float(seen[place]) - scale[0]) / (scale[1] - scale[0])
        assert heat[place][3] == pytest.approx(255 * drawn, abs=2)
    own = {tuple(lines(gallery)[name, "signed"]["statistics"]["scale"]) for name in IMAGES}
    assert len(own) > 1
    render_gallery(gallery, scale="own")
    again = {tuple(lines(gallery)[name, "bright"]["statistics"]["scale"]) for name in IMAGES}
    assert len(again) > 1


IMAGES = ("cat.jpg", "cat.png", "deep/er/portrait.png")


def test_a_shared_scale_of_maps_without_signal_draws_none(gallery: Path) -> None:
    done = render_gallery(gallery, scale="shared", methods=["flat"])
    assert done.exit_code == 0
    assert lines(gallery)["cat.jpg", "flat"]["statistics"]["no_signal"]


def test_chosen_methods_stand_alone_on_the_page_and_the_others_come_back(gallery: Path) -> None:
    before = files(gallery, "overlays")
    render_gallery(gallery, {"colormap": "inferno"}, methods=["bright"])
    assert page_methods(gallery) == {"bright"}
    after = files(gallery, "overlays")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {f"overlays/{image}/fake.bright.png" for image in IMAGES}
    assert len(lines(gallery)) == 9
    render_gallery(gallery)
    assert page_methods(gallery) == {"bright", "signed", "flat"}


@pytest.mark.parametrize("change", ["gone", "other", "moved"])
def test_photos_that_are_gone_are_drawn_from_the_copies(
    gallery: Path, photos: Path, change: str
) -> None:
    before = pixels_of(gallery / "overlays/cat.png/fake.bright.png")
    if change == "other":
        photo(photos / "cat.png", spot=(10, 10))
        done = render_gallery(gallery)
        assert done.copies == ("cat.png",)
    elif change == "gone":
        shutil.rmtree(photos)
        done = render_gallery(gallery)
        assert done.copies == IMAGES
    else:
        photos.rename(photos.with_name("elsewhere"))
        done = render_gallery(gallery, photos=photos.with_name("elsewhere"))
        assert done.copies == ()
    after = pixels_of(gallery / "overlays/cat.png/fake.bright.png")
    assert after.shape == before.shape
    assert np.abs(after - before).mean() < 4  # a JPEG of the same picture


def test_a_large_photo_keeps_its_aspect_from_the_copy(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "large.png", 1500, 2000, spot=(400, 1500))
    make(tmp_path / "in", tmp_path / "out", overlay_size=1600)
    assert pixels_of(tmp_path / "out/overlays/large.png/fake.bright.png").shape[1] == 1600
    (tmp_path / "in" / "large.png").unlink()
    render_gallery(
        tmp_path / "out", {"caption": False, "colorbar": False, "opacity": 0, "unseen": "none"}
    )
    overlay = pixels_of(tmp_path / "out/overlays/large.png/fake.bright.png")
    assert overlay.shape == (960, 1280, 3)
    marked = np.unravel_index(overlay.sum(axis=2).argmax(), overlay.shape[:2])
    assert np.allclose(marked, (400 * 0.64, 1500 * 0.64), atol=30)


def test_a_damaged_map_is_listed_and_the_others_are_drawn(gallery: Path) -> None:
    (gallery / "maps/cat.jpg/fake.bright.npz").write_bytes(b"torn")
    before = (gallery / "overlays/cat.jpg/fake.bright.png").read_bytes()
    done = render_gallery(gallery, {"colormap": "inferno"})
    assert (done.drawn, done.exit_code) == (8, 1)
    ((key, why),) = done.failures.items()
    assert key == ("cat.jpg", "fake", "bright")
    assert "is not a saved map" in why
    assert (gallery / "overlays/cat.jpg/fake.bright.png").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"style": {"colormap": "viridiss"}}, "viridis"),
        ({"style": {"colour": "red"}}, "no drawing option 'colour'"),
        ({"methods": ["brigth"]}, "no method 'brigth'. Did you mean 'bright'"),
        ({"models": ["other"]}, "no model 'other'"),
        ({"scale": "common"}, "own or shared, not 'common'"),
        ({"scale": "shared", "style": {"limits": [0, 1]}}, "both fix the scale"),
        ({"photos": Path("nowhere")}, "nowhere is not a folder"),
    ],
)
def test_a_wrong_wish_writes_nothing(
    gallery: Path, arguments: dict[str, Any], message: str
) -> None:
    before = files(gallery, ".")
    with pytest.raises(ConfigError, match=message):
        render_gallery(gallery, **arguments)
    assert files(gallery, ".") == before


def test_a_folder_that_is_no_gallery_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no gallery"):
        render_gallery(tmp_path)
    assert list(tmp_path.iterdir()) == []


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many maps be drawn, and then stop as a user does."""
    drawn: list[Any] = []

    def cut(*arguments: Any) -> None:
        if len(drawn) == count:
            raise KeyboardInterrupt
        drawn.append(arguments)
        drawing.draw_pictures(*arguments)

    monkeypatch.setattr(render, "draw_pictures", cut)


def test_a_drawing_that_was_cut_off_is_completed_before_the_gallery_goes_on(
    gallery: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        render_gallery(gallery, {"colormap": "inferno"}, workers=1)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="cut off"):
        make(photos, gallery)
    with pytest.raises(ConfigError, match="cut off"):
        make(photos, gallery, style={"colormap": "inferno"})
    render_gallery(gallery)
    assert {each["statistics"]["colormap"] for each in lines(gallery).values()} == {"inferno"}
    make(photos, gallery, style={"colormap": "inferno"})


def test_what_was_cut_off_stays_known_until_it_is_drawn(
    gallery: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        render_gallery(gallery, {"colormap": "inferno"}, methods=["signed"], workers=1)
    monkeypatch.undo()
    render_gallery(gallery, {"colormap": "inferno"}, methods=["bright", "flat"])
    with pytest.raises(ConfigError, match="cut off"):
        make(photos, gallery, style={"colormap": "inferno"})
    render_gallery(gallery, methods=["signed"])
    make(photos, gallery, style={"colormap": "inferno"})
    assert {each["statistics"]["colormap"] for each in lines(gallery).values()} == {"inferno"}


def test_a_scale_of_its_own_is_the_one_it_had(photos: Path, out: Path) -> None:
    make(photos, out, style={"normalization": "percentile"})
    before = lines(out)
    for _ in range(2):
        render_gallery(out, scale="shared")
        scales = {tuple(lines(out)[name, "bright"]["statistics"]["scale"]) for name in IMAGES}
        assert len(scales) == 1
        assert max(scales)[1] == max(before[n, "bright"]["statistics"]["scale"][1] for n in IMAGES)
    render_gallery(out, {"colormap": "inferno"})
    render_gallery(out, scale="own")
    after = lines(out)
    for key, line in before.items():
        for name in ("scale", "normalization"):
            assert after[key]["statistics"][name] == line["statistics"][name]


def test_a_damaged_map_does_not_keep_others_from_one_scale(gallery: Path) -> None:
    (gallery / "maps/cat.jpg/fake.bright.npz").write_bytes(b"torn")
    done = render_gallery(gallery, scale="shared", methods=["bright"])
    assert (done.drawn, list(done.failures)) == (2, [("cat.jpg", "fake", "bright")])
    scales = [lines(gallery)[name, "bright"]["statistics"]["scale"] for name in IMAGES[1:]]
    assert scales[0] == scales[1]


def test_the_gallery_goes_on_in_the_style_it_was_drawn_in(gallery: Path, photos: Path) -> None:
    render_gallery(gallery, {"colormap": "inferno"})
    photo(photos / "new.png")
    with pytest.raises(ConfigError, match="style of bright for fake"):
        make(photos, gallery)
    make(photos, gallery, style={"colormap": "inferno"})
    assert lines(gallery)["new.png", "bright"]["statistics"]["colormap"] == "inferno"
