"""What leaves a stored gallery: masks that other tools read, and sheets that print."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery_fakes import FakeEngine, settings
from PIL import Image as PillowImage

from visattn.errors import ConfigError
from visattn.gallery import contact_sheet, export_gallery, run_gallery
from visattn.gallery.coco import run_lengths
from visattn.saliency import SaliencyMap

METHODS = ("bright", "signed", "flat")


@pytest.fixture
def gallery(photos: Path, out: Path) -> Path:
    config = settings(photos, out, methods=list(METHODS))
    run_gallery(config, progress=False, engine=FakeEngine())
    return out


def decoded(segmentation: dict[str, Any]) -> Any:
    """Return the mask of run lengths, one pixel after the other, as COCO describes them."""
    height, width = segmentation["size"]
    pixels: list[bool] = []
    for place, count in enumerate(segmentation["counts"]):
        pixels += [place % 2 == 1] * count
    return np.array(pixels).reshape(width, height).T


def table(path: Path, keys: list[tuple[str, str, str]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("status", "image", "model", "method"))
        writer.writerows(("ok", *key) for key in keys)
    return path


@pytest.mark.parametrize(
    ("rows", "counts"),
    [
        ([[0, 1], [0, 1], [1, 0]], [2, 3, 1]),
        ([[1, 1], [1, 1]], [0, 4]),
        ([[0, 0]], [2]),
        ([[1, 0], [0, 0]], [0, 1, 3]),
    ],
)
def test_run_lengths_go_down_the_columns(rows: list[list[int]], counts: list[int]) -> None:
    assert run_lengths(np.array(rows, bool)) == counts


def test_masks_come_back_and_cover_the_hottest_place(gallery: Path, tmp_path: Path) -> None:
    export_gallery(gallery, coco=tmp_path / "masks.json", share=0.2, methods=["bright"])
    document = json.loads((tmp_path / "masks.json").read_text())
    names = {each["id"]: each for each in document["images"]}
    assert [each["name"] for each in document["categories"]] == ["salient region"]
    assert len(document["annotations"]) == 3
    for each in document["annotations"]:
        image = names[each["image_id"]]
        mask = decoded(each["segmentation"])
        assert mask.shape == (image["height"], image["width"])
        assert mask.sum() == each["area"]
        rows, cols = np.nonzero(mask)
        box = [cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1]
        assert each["bbox"] == box
        saliency = SaliencyMap.load(gallery / f"maps/{image['file_name']}/fake.bright.npz")
        seen = saliency.on_image("nearest")
        assert mask[np.unravel_index(np.nanargmax(seen), seen.shape)]
        assert not mask[np.isnan(seen)].any()


def test_classes_are_categories_and_silent_maps_have_no_mask(gallery: Path, tmp_path: Path) -> None:
    maps, masks, *_ = export_gallery(gallery, coco=tmp_path / "masks.json")
    assert (maps, masks) == (9, 6)
    document = json.loads((tmp_path / "masks.json").read_text())
    lines = map(json.loads, (gallery / "manifest.jsonl").read_text().splitlines())
    labels = {(e["image"], e["method"]): e["target_label"] or "salient region" for e in lines}
    categories = {each["id"]: each["name"] for each in document["categories"]}
    names = {each["id"]: each["file_name"] for each in document["images"]}
    for each in document["annotations"]:
        assert each["method"] != "flat"
        label = labels[names[each["image_id"]], each["method"]]
        assert categories[each["category_id"]] == label


def test_a_table_chooses_maps_and_their_order(gallery: Path, tmp_path: Path) -> None:
    keys = [("deep/er/portrait.png", "fake", "bright"), ("cat.png", "fake", "signed")]
    chosen = table(tmp_path / "selection.csv", keys)
    maps, masks, *_ = export_gallery(gallery, table=chosen, coco=tmp_path / "masks.json")
    assert (maps, masks) == (2, 2)
    document = json.loads((tmp_path / "masks.json").read_text())
    assert [each["file_name"] for each in document["images"]] == [key[0] for key in keys]


def pictures(path: Path) -> Any:
    with PillowImage.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_a_sheet_has_a_row_for_each_photo(gallery: Path, tmp_path: Path) -> None:
    export_gallery(gallery, sheet=tmp_path / "sheet.png")
    sheet = pictures(tmp_path / "sheet.png")
    assert sheet.shape[1] == contact_sheet.PAGE.width
    coloured = (sheet.max(axis=2) - sheet.min(axis=2)) > 15  # text is grey
    rows = np.flatnonzero(np.diff(np.pad(coloured.any(axis=1), 1).astype(int)) == 1)
    assert len(rows) == 3
    first = coloured[rows[0] : rows[1]].any(axis=0)
    assert np.count_nonzero(np.diff(np.pad(first, 1).astype(int)) == 1) == 3


def test_a_sheet_of_many_has_pages_and_the_same_bytes(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contact_sheet, "PAGE", contact_sheet.Size(400, 1654))
    for name in ("one.pdf", "two.pdf"):
        export_gallery(gallery, sheet=tmp_path / name)
    one = (tmp_path / "one.pdf").read_bytes()
    assert one == (tmp_path / "two.pdf").read_bytes()
    assert one.count(b"/Type /Page\n") + one.count(b"/Type /Page ") == 3
    monkeypatch.setattr(contact_sheet, "TALLEST", 300)
    with pytest.raises(ConfigError, match=r"9 maps are taller than 300 pixels: write a \.pdf"):
        export_gallery(gallery, sheet=tmp_path / "tall.png")
    assert not (tmp_path / "tall.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to export"),
        ({"coco": "m.json", "share": 0.0}, "above 0, up to 1, not 0"),
        ({"coco": "m.json", "methods": ["brigth"]}, "Did you mean 'bright'"),
        ({"sheet": "s.jpg"}, "a .pdf or a .png, not 's.jpg'"),
        ({"coco": "m.json", "sheet": "photos"}, "a .pdf or a .png, not 'photos'"),
        ({"coco": "photos", "sheet": "s.pdf"}, r"photos cannot be written \(a folder\)"),
        ({"coco": "absent/m.json"}, r"m.json cannot be written \(its folder is not there\)"),
        ({"coco": "m.json", "table": "absent.csv"}, "absent.csv cannot be read"),
    ],
)
def test_wrong_wishes_write_nothing(
    gallery: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    paths = ("coco", "sheet", "table")
    given = {k: tmp_path / v if k in paths else v for k, v in arguments.items()}
    with pytest.raises(ConfigError, match=message):
        export_gallery(gallery, **given)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "out"}


def test_a_damaged_map_is_listed_and_the_others_leave(gallery: Path, tmp_path: Path) -> None:
    (gallery / "maps/cat.jpg/fake.bright.npz").write_bytes(b"torn")
    files = {"coco": tmp_path / "m.json", "sheet": tmp_path / "s.png"}
    done = export_gallery(gallery, methods=["bright"], **files)
    assert (done.maps, done.masks) == (2, 2)
    ((key, why),) = done.failures.items()
    assert key == ("cat.jpg", "fake", "bright")
    assert "'visattn gallery' makes it again" in why
    for path in gallery.rglob("fake.bright.npz"):
        path.unlink()
    with pytest.raises(ConfigError, match="No map of this selection can be read"):
        export_gallery(gallery, methods=["bright"], coco=tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


def test_classes_of_one_name_stay_apart(gallery: Path, tmp_path: Path) -> None:
    path = gallery / "manifest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for place, line in enumerate(lines):
        if line["method"] == "signed":
            line["target_index"], line["target_label"] = (134, 517, 517)[place % 3], "crane"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    export_gallery(gallery, coco=tmp_path / "m.json", methods=["signed"])
    document = json.loads((tmp_path / "m.json").read_text())
    wanted = {line["target_index"] for line in lines if line["method"] == "signed"}
    assert {each["index"] for each in document["categories"]} == wanted
    assert {each["name"] for each in document["categories"]} == {"crane"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,model\ncat.jpg,fake\n", "no column 'method'"),
        ("image,model,method\nno.jpg,fake,bright\n", "bright of fake for 'no.jpg' is not in this"),
        ("", "no column 'image'"),
    ],
)
def test_wrong_tables_are_refused(gallery: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        export_gallery(gallery, table=tmp_path / "t.csv", coco=tmp_path / "m.json")
    assert not (tmp_path / "m.json").exists()
