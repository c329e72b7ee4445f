"""Data sets with annotations: masks by position, and everything else left out by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.annotated import LABELS, block, mask, model, photo, read
from visattn.errors import ConfigError
from visattn.evaluation.datasets import list_datasets, open_dataset
from visattn.evaluation.datasets.labels import Labels
from visattn.evaluation.datasets.regions import (
    box_mask,
    polygon_mask,
    run_length_mask,
    run_lengths,
    segmentation_mask,
)
from visattn.gallery.coco import run_lengths as gallery_run_lengths
from visattn.images import Size

SIZE = (6, 9)


# ---- labels


def test_names_find_outputs_by_label_synonym_and_index():
    labels = Labels(model())
    wanted = ["DOG", "tabby cat", "Tabby", "tabby,  Tabby_Cat", "stoplight", "4"]
    assert [labels.index(name) for name in wanted] == [1, 0, 0, 0, 4, 4]
    assert labels.aim("crane", "x").reason == "class name stands for several outputs"
    for unknown in ("cat", "", "6", "-1", "tabby, dog"):
        assert labels.aim(unknown, "x").reason == "class not in the label list"
    assert labels.aim("dog", "x") == (1, 1)


def test_a_label_wins_over_the_synonym_of_another():
    labels = Labels(model(["cat, dog", "dog", "7", "d", "e", "f"]))
    assert labels.index("dog") == 1
    assert labels.index("7") == 2


def test_a_file_says_which_output_a_category_is(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"Cat": "tabby", "puppy": 1, "dog": None}))
    (tmp_path / "a.csv").write_text('category,label\nCat,"tabby, tabby cat"\npuppy,1\ndog,\n')
    for name in ("a.json", "a.csv"):
        labels = Labels(model(), tmp_path / name)
        assert [labels.index(c) for c in ("cat", "puppy", "dog", "crane", "stoplight")] == [
            0, 1, None, None, 4,
        ]  # fmt: skip
    (tmp_path / "b.csv").write_text("one,two,three\n")
    (tmp_path / "b.json").write_text('{"a": [1]}')
    for name in ("b.csv", "b.json", "c.csv"):
        with pytest.raises(ConfigError, match="cannot be read"):
            Labels(model(), tmp_path / name)


def test_a_model_without_classifier_explains_the_embedding():
    assert Labels(model(None, 0)).aim("anything", "x") == ("embedding", None)
    assert Labels(model(None)).index("3") == 3
    assert Labels(model(None)).index("6") is None


# ---- regions


def test_boxes_and_polygons_cover_the_pixels_whose_centre_they_hold():
    size = Size(*SIZE)
    assert np.array_equal(box_mask([2, 1, 3, 4], size), block(SIZE, 1, 2, 5, 5))
    assert np.array_equal(box_mask([1.6, 0.4, 3, 1], size), block(SIZE, 0, 2, 1, 5))
    square = [2, 1, 5, 1, 5, 5, 2, 5]
    assert np.array_equal(polygon_mask(square, size), block(SIZE, 1, 2, 5, 5))
    beyond = [-3, -3, 20, -3, 20, 2, -3, 2]
    assert np.array_equal(polygon_mask(beyond, size), block(SIZE, 0, 0, 2, 9))
    both = segmentation_mask([square, beyond], size)
    assert np.array_equal(both, block(SIZE, 1, 2, 5, 5) | block(SIZE, 0, 0, 2, 9))
    triangle = polygon_mask([0, 0, 9, 0, 0, 9], size)
    for row, col in np.ndindex(SIZE):
        if (row + 0.5) + (col + 0.5) != 9:  # on the edge either is right
            assert triangle[row, col] == ((row + 0.5) + (col + 0.5) < 9)


@pytest.mark.parametrize(
    "corners", [[], [1, 2, 3, 4], [1, 2, 3, 4, 5, 6, 7], [0, 0, 1, 0, 0, np.nan]]
)
def test_what_is_no_polygon_is_refused(corners):
    with pytest.raises(ValueError, match="no polygon"):
        polygon_mask(corners, Size(*SIZE))


def compressed(runs: list[int]) -> str:
    """Write run lengths as text, from the description of the format: an independent encoder."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            group, value = value & 31, value >> 5
            done = value == (-1 if group & 16 else 0)
            text += chr(48 + group + (0 if done else 32))
            if done:
                break
    return text


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_of_the_gallery_and_their_compressed_text_come_back(seed):
    random = np.random.default_rng(seed)
    expected = random.random((40, 70)) < (0.5 if seed % 2 else 0.002)
    expected[:, :30] = False  # runs that need several characters
    expected[0, 0] = seed > 2
    runs = gallery_run_lengths(expected)
    assert np.array_equal(run_length_mask(runs, Size(40, 70)), expected)
    assert run_lengths(compressed(runs)) == runs
    found = segmentation_mask({"size": [40, 70], "counts": compressed(runs)}, Size(40, 70))
    assert np.array_equal(found, expected)


def test_a_text_that_was_decoded_by_hand_is_read():
    """6 and 1 as they are; X1 = 8 + 1 * 32 = 40; then differences from two places before.

    3; mN = 29 + 30 * 32 - 1024 = -35; 0; 0; 0; `0 = 16.
    """
    runs = [6, 1, 40, 4, 5, 4, 5, 4, 21]
    assert compressed(runs) == "61X13mN000`0"
    assert run_lengths("61X13mN000`0") == runs


@pytest.mark.parametrize("text", ["61X", "6 1", "6\x7f"])
def test_damaged_text_is_refused(text):
    with pytest.raises(ValueError, match="run lengths"):
        run_lengths(text)
    with pytest.raises(ValueError, match="3 pixels"):
        run_length_mask([1, 2], Size(2, 2))
    with pytest.raises(ValueError, match="pixels"):
        run_length_mask([-1, 5], Size(2, 2))


# ---- masks


def folder(tmp_path: Path) -> Path:
    """Photos of 6 x 9 pixels with one mask each, and whatever can be wrong."""
    evidence = block(SIZE, 1, 2, 4, 7)
    for name in ("a.jpg", "deep/b [1] #2.png", "é x.jpg"):
        photo(tmp_path / "images" / name, *SIZE)
        mask(tmp_path / "masks" / name.replace(".jpg", ".png"), 200 * evidence)
    photo(tmp_path / "images" / "turned.jpg", 9, 6, turn=6)
    mask(tmp_path / "masks" / "turned.png", evidence)
    photo(tmp_path / "images" / "flat mask.jpg", 9, 6, turn=6)
    mask(tmp_path / "masks" / "flat mask.png", evidence.T)
    photo(tmp_path / "images" / "empty.jpg", *SIZE)
    mask(tmp_path / "masks" / "empty.png", 0 * evidence)
    photo(tmp_path / "images" / "lonely.jpg", *SIZE)
    photo(tmp_path / "images" / "twice.jpg", *SIZE)
    mask(tmp_path / "masks" / "twice.png", evidence)
    mask(tmp_path / "masks" / "twice.bmp", evidence)
    photo(tmp_path / "images" / "bad mask.jpg", *SIZE)
    (tmp_path / "masks" / "bad mask.png").write_bytes(b"\x89PNG no")
    (tmp_path / "images" / "broken.jpg").write_bytes(b"no photo")
    mask(tmp_path / "masks" / "broken.png", evidence)
    mask(tmp_path / "masks" / "left over.png", evidence)
    return tmp_path


def test_masks_are_found_and_faults_are_told_by_name(tmp_path):
    samples, excluded = read(f"masks:{folder(tmp_path)}")
    assert list(samples) == ["a.jpg", "deep/b [1] #2.png", "turned.jpg", "é x.jpg"]
    for sample in samples.values():
        assert np.array_equal(sample.masks["evidence"], block(SIZE, 1, 2, 4, 7))
        assert sample.prepared.tensor.shape == (3, *SIZE)
        assert (sample.target, sample.label, sample.group) == (None, None, sample.name)
    assert sorted(excluded) == [
        ("empty mask", "empty.jpg"),
        ("mask of another size", "flat mask.jpg"),
        ("mask without a photo", "left over"),
        ("no mask", "lonely.jpg"),
        ("several masks", "twice.jpg"),
        ("unreadable image", "broken.jpg"),
        ("unreadable mask", "bad mask.jpg"),
    ]


def test_masks_beside_photos_and_values_of_any_format(tmp_path):
    values = np.zeros(SIZE, int)
    values[1:3, 2:4], values[4:, 5:] = 1, 2
    photo(tmp_path / "x.jpg", *SIZE)
    mask(tmp_path / "x_mask.png", values, palette=True)
    rgba = np.zeros((*SIZE, 4), np.uint8)
    rgba[..., 3] = 255 * (values > 0)
    rgba[..., 1] = np.maximum(values, 2 * (values == 0))  # what is transparent has a colour, too
    photo(tmp_path / "y.jpg", *SIZE)
    mask(tmp_path / "y_mask.png", rgba)
    for spec, expected in (
        ("", values > 0),
        ("?value=2", values == 2),
        ("?threshold=1", values > 1),
    ):
        samples, excluded = read(f"masks:{tmp_path}{spec}")
        assert list(samples) == ["x.jpg", "y.jpg"]
        assert not excluded
        for sample in samples.values():
            assert np.array_equal(sample.masks["evidence"], expected)


def test_a_mask_is_turned_as_its_own_tag_says(tmp_path):
    photo(tmp_path / "x.jpg", 9, 6, turn=6)
    evidence = block(SIZE, 1, 2, 4, 7)
    exif = Image.Exif()
    exif[274] = 6  # shown after a turn to the right
    stored = Image.fromarray(np.rot90(evidence).astype(np.uint8))
    stored.save(tmp_path / "x_mask.png", exif=exif)
    samples, _ = read(f"masks:{tmp_path}")
    assert np.array_equal(samples["x.jpg"].masks["evidence"], evidence)


def test_masks_of_one_bit_and_of_fractions_are_read(tmp_path):
    evidence = block(SIZE, 1, 2, 4, 7)
    stored = {
        "bit.png": Image.fromarray(evidence),
        "part.tif": Image.fromarray(evidence * np.float32(0.2)),
    }
    for name, picture in stored.items():
        stem, suffix = name.split(".")
        photo(tmp_path / f"{stem}.jpg", *SIZE)
        picture.save(tmp_path / f"{stem}_mask.{suffix}")
    samples, excluded = read(f"masks:{tmp_path}")
    assert list(samples) == ["bit.jpg", "part.jpg"]
    assert not excluded
    for sample in samples.values():
        assert np.array_equal(sample.masks["evidence"], evidence)


def test_labels_of_masks_are_names_or_indices(tmp_path):
    for name in ("a", "b", "c", "d", "e"):
        photo(tmp_path / "images" / f"{name}.jpg", *SIZE)
        mask(tmp_path / "masks" / f"{name}.png", np.ones(SIZE))
    assert "label" not in open_dataset(f"masks:{tmp_path}").known()
    (tmp_path / "labels.csv").write_text("name,label\na.jpg,dog\nb,5\nc,wolf\nd,crane\nz,dog\n")
    assert open_dataset(f"masks:{tmp_path}").known() == ("evidence", "label")
    samples, excluded = read(f"masks:{tmp_path}")
    assert {name: (s.target, s.label) for name, s in samples.items()} == {
        "a.jpg": (1, 1), "b.jpg": (5, 5),
    }  # fmt: skip
    assert sorted(excluded) == [
        ("class name stands for several outputs", "d.jpg"),
        ("class not in the label list", "c.jpg"),
        ("label without a photo", "z"),
        ("no label", "e.jpg"),
    ]
    samples, _ = read(f"masks:{tmp_path}", model(None, 0))
    assert {sample.target for sample in samples.values()} == {"embedding"}


@pytest.mark.parametrize("text", ["a.jpg,dog\n", "name,label\na\n", "name,label\na,1\na,2\n"])
def test_a_table_of_labels_that_is_none_is_refused(tmp_path, text):
    photo(tmp_path / "a.jpg", *SIZE)
    mask(tmp_path / "a_mask.png", np.ones(SIZE))
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ConfigError, match=r"labels\.csv"):
        read(f"masks:{tmp_path}")


def test_folders_without_masks_are_refused(tmp_path):
    photo(tmp_path / "a.jpg", *SIZE)
    with pytest.raises(ConfigError, match="0 masks"):
        read(f"masks:{tmp_path}")
    with pytest.raises(ConfigError, match="not an integer"):
        open_dataset(f"masks:{tmp_path}?value=cat")
    with pytest.raises(ConfigError, match="not a folder"):
        read(f"masks:{tmp_path / 'nowhere'}")


# ---- COCO


def coco(tmp_path: Path) -> Path:
    """Two photos with cats, dogs and things that the model does not know."""
    for name in ("one.jpg", "two #.jpg", "big.jpg", "bare.jpg"):
        photo(tmp_path / "photos" / name, *SIZE)
    photo(tmp_path / "photos" / "turned.jpg", 9, 6, turn=8)
    runs = gallery_run_lengths(block(SIZE, 3, 1, 6, 4))
    whole = {"size": list(SIZE), "counts": runs}
    square = [[2, 1, 5, 1, 5, 5, 2, 5]]

    def image(number: int, name: str, height: int = 6, width: int = 9) -> dict[str, Any]:
        return {"id": number, "file_name": name, "height": height, "width": width}

    def instance(photo: int, category: int, region: Any, **more: Any) -> dict[str, Any]:
        box = {"bbox": [0, 0, 2, 2], "iscrowd": 0}
        return {"image_id": photo, "category_id": category, "segmentation": region, **box, **more}

    names = {1: "tabby", 3: "dog", 4: "Tabby Cat", 7: "wolf", 9: "stoplight"}
    data = {
        "images": [
            image(5, "one.jpg"), image(2, "two #.jpg"), image(8, "turned.jpg"),
            image(3, "big.jpg", 60, 90), image(4, "bare.jpg"), image(6, "../secret.jpg"),
            image(7, "gone.jpg"),
        ],
        "categories": [{"id": number, "name": name} for number, name in names.items()],
        "annotations": [
            instance(5, 1, square), instance(5, 1, whole, bbox=[4, 4, 3, 2]),
            instance(5, 3, [[0, 0, 9, 0, 9, 2, 0, 2]]), instance(5, 7, [[0, 4, 9, 4, 9, 6, 0, 6]]),
            instance(5, 4, [[8, 5, 9, 5, 9, 6, 8, 6]]), instance(2, 3, whole, iscrowd=1),
            instance(2, 1, [[1, 1, 2]]), instance(2, 9, [[1, 1, 1.1, 1, 1.1, 1.1]]),
            instance(8, 3, square), instance(3, 3, square), instance(7, 3, square),
            instance(6, 3, square), instance(99, 3, square),
        ],
    }  # fmt: skip
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(data))
    return path


def test_coco_has_one_sample_for_each_category_in_a_photo(tmp_path):
    path = coco(tmp_path)
    samples, excluded = read(f"coco:{path}?images='{tmp_path / 'photos'}'")
    assert list(samples) == [
        "one.jpg#tabby", "one.jpg#dog", "one.jpg#Tabby Cat", "turned.jpg#dog",
    ]  # fmt: skip
    tabby, dog = samples["one.jpg#tabby"], samples["one.jpg#dog"]
    cat = block(SIZE, 1, 2, 5, 5) | block(SIZE, 3, 1, 6, 4)
    above = block(SIZE, 0, 0, 2, 9)
    assert np.array_equal(tabby.masks["evidence"], cat)
    # The wolf is no class of the model, the other cat is the same class: neither is another.
    assert np.array_equal(tabby.masks["others"], above & ~cat)
    assert np.array_equal(dog.masks["evidence"], above)
    assert np.array_equal(dog.masks["others"], (cat | block(SIZE, 5, 8, 6, 9)) & ~above)
    assert [(s.target, s.label) for s in samples.values()] == [(0, 0), (1, 1), (0, 0), (1, 1)]
    assert {sample.group for sample in samples.values()} == {"one.jpg", "turned.jpg"}
    assert "others" not in samples["turned.jpg#dog"].masks
    assert sorted(excluded) == [
        ("class not in the label list", "one.jpg#wolf"),
        ("empty mask", "two #.jpg#stoplight"),
        ("file name outside the folder", "../secret.jpg"),
        ("mask of another size", "big.jpg"),
        ("no annotation", "bare.jpg"),
        ("only crowd regions", "two #.jpg#dog"),
        ("unreadable annotation", "two #.jpg#tabby"),
        ("unreadable image", "gone.jpg"),
    ]


def test_coco_by_box_with_crowds_and_for_models_without_classes(tmp_path):
    path = coco(tmp_path)
    spec = f"coco:{path}?images='{tmp_path / 'photos'}'"
    samples, _ = read(f"{spec},by=box,crowd=True")
    found = samples["one.jpg#tabby"].masks["evidence"]
    assert np.array_equal(found, block(SIZE, 0, 0, 2, 2) | block(SIZE, 4, 4, 6, 7))
    assert np.array_equal(samples["two #.jpg#dog"].masks["evidence"], block(SIZE, 0, 0, 2, 2))
    samples, _ = read(spec, model(None, 0))
    assert {sample.target for sample in samples.values()} == {"embedding"}
    assert "one.jpg#wolf" in samples
    assert samples["one.jpg#tabby"].masks["others"][5, 8]


def test_categories_are_mapped_by_a_file(tmp_path):
    path = coco(tmp_path)
    (tmp_path / "classes.csv").write_text("wolf,dog\ndog,\n")
    spec = f"coco:{path}?images='{tmp_path / 'photos'}',classes='{tmp_path / 'classes.csv'}'"
    samples, excluded = read(spec)
    assert samples["one.jpg#wolf"].label == 1
    assert ("class not in the label list", "one.jpg#dog") in excluded
    with pytest.raises(ConfigError, match="has no class names"):
        read(f"coco:{path}?images='{tmp_path / 'photos'}'", model(None))


def test_files_that_are_no_annotations_are_refused(tmp_path):
    faulty = {
        "text": "no json",
        "list": "[1]",
        "without categories": '{"images": [], "annotations": []}',
        "unknown category": json.dumps(
            {"images": [], "categories": [], "annotations": [{"image_id": 1, "category_id": 2}]}
        ),
        "twice": json.dumps(
            {"images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "a"}],
             "categories": [], "annotations": []}
        ),
    }  # fmt: skip
    for name, text in faulty.items():
        path = tmp_path / f"{name}.json"
        path.write_text(text)
        with pytest.raises(ConfigError, match=name):
            read(f"coco:{path}")
    with pytest.raises(ConfigError, match="gone"):
        read(f"coco:{tmp_path / 'gone.json'}")
    with pytest.raises(ConfigError, match="segmentation, box"):
        open_dataset(f"coco:{path}?by=mask")
    with pytest.raises(ConfigError, match="no option"):
        open_dataset(f"coco:{path}?colour=1")


# ---- Pascal VOC

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin>"
    "<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def xml(*objects: str, size: tuple[int, int] = SIZE) -> str:
    height, width = size
    stated = f"<size><width>{width}</width><height>{height}</height></size>"
    return f"<annotation>{stated}{''.join(objects)}</annotation>"


def voc(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2012"
    names = ["2007_1", "2007_2", "2007_3", "2007_4", "2007_5", "2007_6", "2007_7"]
    for name in names:
        photo(root / "JPEGImages" / f"{name}.jpg", *SIZE)
    for part in ("Segmentation", "Main"):
        (root / "ImageSets" / part).mkdir(parents=True)
        (root / "ImageSets" / part / "val.txt").write_text("\n".join([*names, "gone"]) + "\n")
    (root / "ImageSets" / "Main" / "dog_val.txt").write_text("2007_1  1\n2007_2 -1\n2007_3  0\n")
    values = np.zeros(SIZE, int)
    values[1:4, 2:6], values[4, 2:6], values[0, :], values[5, 8] = 12, 255, 1, 8
    where = root / "SegmentationClass"
    mask(where / "2007_1.png", values, palette=True)
    mask(where / "2007_2.png", 255 * (values > 0), palette=True)
    mask(where / "2007_3.png", np.full(SIZE, 77), palette=True)
    mask(where / "2007_4.png", values.T, palette=True)
    mask(where / "2007_5.png", np.stack([values] * 3, axis=2))
    (where / "2007_6.png").write_bytes(b"no mask")
    notes = root / "Annotations"
    notes.mkdir()
    dog, far = OBJECT.format("dog", 0, 3, 2, 6, 4), OBJECT.format("dog", 1, 8, 5, 9, 6)
    plane, cow = OBJECT.format("aeroplane", 0, "1.0", 1, 9, 1), OBJECT.format("cow", 1, 1, 6, 1, 6)
    (notes / "2007_1.xml").write_text(xml(dog, far, cow, plane))
    (notes / "2007_2.xml").write_text(xml(dog, size=(9, 6)))
    bomb = '<!DOCTYPE a [<!ENTITY x "dog">]>' + xml(dog.replace("dog", "&x;"))
    (notes / "2007_3.xml").write_text(bomb)
    (notes / "2007_4.xml").write_bytes(bomb.encode("utf-16"))
    (notes / "2007_5.xml").write_text(xml())
    (notes / "2007_6.xml").write_text(xml("<object><name>dog</name></object>", far))
    return root


def test_voc_reads_class_indices_and_leaves_borders_out(tmp_path):
    samples, excluded = read(f"voc:{voc(tmp_path)}")
    assert list(samples) == ["2007_1#aeroplane", "2007_1#dog"]
    dog, plane = samples["2007_1#dog"], samples["2007_1#aeroplane"]
    assert np.array_equal(dog.masks["evidence"], block(SIZE, 1, 2, 4, 6))
    assert np.array_equal(dog.masks["others"], block(SIZE, 0, 0, 1, 9))
    assert np.array_equal(plane.masks["evidence"], block(SIZE, 0, 0, 1, 9))
    assert (dog.target, dog.label, dog.group) == (1, 1, "2007_1")
    reasons = {name: reason for reason, name in excluded}
    assert reasons == {
        "2007_1#cat": "class not in the label list", "2007_2": "empty mask",
        "2007_3": "unreadable mask", "2007_4#aeroplane": "mask of another size",
        "2007_4#cat": "class not in the label list", "2007_4#dog": "mask of another size",
        "2007_5": "unreadable mask", "2007_6": "unreadable mask", "2007_7": "no mask",
        "gone": "unreadable image",
    }  # fmt: skip


def test_voc_reads_boxes_and_refuses_documents_that_declare_entities(tmp_path):
    root = voc(tmp_path)
    samples, excluded = read(f"voc:{root}?by=box")
    assert list(samples) == ["2007_1#aeroplane", "2007_1#dog"]
    assert np.array_equal(samples["2007_1#dog"].masks["evidence"], block(SIZE, 1, 2, 4, 6))
    assert np.array_equal(samples["2007_1#aeroplane"].masks["evidence"], block(SIZE, 0, 0, 1, 9))
    assert {name: reason for reason, name in excluded} == {
        "2007_1#cow": "class not in the label list", "2007_2": "mask of another size",
        "2007_3": "unreadable annotation", "2007_4": "unreadable annotation",
        "2007_5": "no annotation", "2007_6": "unreadable annotation", "2007_7": "no annotation",
        "gone": "unreadable image",
    }  # fmt: skip
    samples, _ = read(f"voc:{root}?by=box,difficult=True")
    both = block(SIZE, 1, 2, 4, 6) | block(SIZE, 4, 7, 6, 9)
    assert np.array_equal(samples["2007_1#dog"].masks["evidence"], both)
    (tmp_path / "cow.csv").write_text("cow,tabby\n")
    _, excluded = read(f"voc:{root}?by=box,classes='{tmp_path / 'cow.csv'}'")
    assert ("only difficult objects", "2007_1#cow") in excluded
    samples, excluded = read(f"voc:{root}?by=box,set=dog_val")
    assert not any(name.startswith("2007_2") for name in [*samples, *(n for _, n in excluded)])


def test_lists_that_are_none_are_refused(tmp_path):
    root = voc(tmp_path)
    for name in ("test", "../../val"):
        with pytest.raises(ConfigError):
            read(f"voc:{root}?set='{name}'")
    (root / "ImageSets" / "Main" / "double.txt").write_text("a\na\n")
    with pytest.raises(ConfigError, match="lists 2 photos, 1 different"):
        read(f"voc:{root}?set=double,by=box")


# ---- ImageNet-Segmentation


def matlab(path: Path, entries: list[dict[str, Any]]) -> Path:
    """Write a file of the layout of gtsegs_ijcv.mat: references to arrays with reversed axes."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        columns = {"img": [], "gt": [], "id": [], "target": []}
        for number, entry in enumerate(entries):
            stored = file.create_dataset(f"#refs#/img{number}", data=entry["img"].T)
            columns["img"].append(stored.ref)
            truths = [
                file.create_dataset(f"#refs#/gt{number}_{k}", data=each.T.astype(np.uint8)).ref
                for k, each in enumerate(entry["gt"])
            ]
            cell = (
                np.array(truths, h5py.ref_dtype)[:, None] if truths else np.zeros((2,), np.uint64)
            )
            columns["gt"].append(file.create_dataset(f"#refs#/cell{number}", data=cell).ref)
            for key in ("id", "target"):
                codes = np.array([[ord(c)] for c in entry[key]], np.uint16)
                columns[key].append(file.create_dataset(f"#refs#/{key}{number}", data=codes).ref)
        for key, references in columns.items():
            file.create_dataset(f"value/{key}", data=np.array(references, h5py.ref_dtype)[:, None])
    return path


def entries() -> list[dict[str, Any]]:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    truth = block(SIZE, 1, 2, 4, 7)
    plain = {"img": image, "gt": [truth, 1 - truth], "target": "n02123045", "id": "n02123045_7"}
    return [
        plain,
        {**plain, "id": "n02012849_1", "target": "n02012849"},  # crane, the bird
        {**plain, "img": image[..., 0], "id": "n00000001_1", "target": "n00000001"},
        {**plain, "gt": [truth.T], "id": "sized"},
        {**plain, "gt": [0 * truth], "id": "empty"},
        {**plain, "gt": [], "id": "without"},
        {**plain, "img": image.astype(np.float32), "id": "floating"},
        plain,
    ]


FAULTS = {
    "sized": "mask of another size", "empty": "empty mask", "without": "no mask",
    "floating": "unreadable image",
}  # fmt: skip


def test_imagenet_segmentation_is_read_from_references(tmp_path):
    path = matlab(tmp_path / "gtsegs_ijcv.mat", entries())
    samples, excluded = read(f"imagenet_segmentation:{path}")
    assert list(samples) == ["n02123045_7", "n02012849_1", "n00000001_1", "n02123045_7 (7)"]
    for sample in samples.values():
        assert np.array_equal(sample.masks["evidence"], block(SIZE, 1, 2, 4, 7))
        assert sample.target is None
    pixels = samples["n02123045_7"].prepared.image.pixels
    assert np.array_equal(pixels, entries()[0]["img"])
    assert np.array_equal(samples["n00000001_1"].prepared.image.pixels[..., 2], pixels[..., 0])
    assert [sample.label for sample in samples.values()] == [0, None, None, 0]
    assert {name: reason for reason, name in excluded} == FAULTS


def test_imagenet_segmentation_by_the_label_of_the_photo(tmp_path):
    path = matlab(tmp_path / "gtsegs_ijcv.mat", entries())
    spec = f"imagenet_segmentation:{path}?target=label"
    samples, excluded = read(spec)
    assert {sample.target for sample in samples.values()} == {0}
    assert {name: reason for reason, name in excluded} == {
        **FAULTS, "n02012849_1": "class name stands for several outputs",
        "n00000001_1": "class not in the label list",
    }  # fmt: skip
    (tmp_path / "classes.json").write_text('{"n02012849": 2}')
    samples, _ = read(f"{spec},classes='{tmp_path / 'classes.json'}'")
    assert samples["n02012849_1"].target == 2
    # A model for ImageNet-1k has the class in its own place, whatever else is called so.
    from visattn.models.synsets import imagenet_synsets

    names = [names.split(",")[0] for _, names in imagenet_synsets().values()]
    samples, _ = read(spec, model(names, 1000))
    assert samples["n02012849_1"].target == imagenet_synsets()["n02012849"][0] == 134
    assert names[517] == names[134] == "crane"


def test_imagenet_segmentation_without_h5py_or_its_layout(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "old.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(ConfigError, match="cannot be read as HDF5"):
        read(f"imagenet_segmentation:{tmp_path / 'old.mat'}")
    with h5py.File(tmp_path / "other.mat", "w") as file:
        file["value/img"] = np.zeros(3)
    with pytest.raises(ConfigError, match="value/gt"):
        read(f"imagenet_segmentation:{tmp_path / 'other.mat'}")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ConfigError, match="pip install h5py"):
        read(f"imagenet_segmentation:{tmp_path / 'old.mat'}")
    with pytest.raises(ConfigError, match="predicted, label"):
        open_dataset("imagenet_segmentation:x.mat?target=true")


def test_the_data_sets_are_known_by_name():
    assert {"masks", "coco", "voc", "imagenet_segmentation"} <= set(list_datasets())
    assert len(LABELS) == 6
