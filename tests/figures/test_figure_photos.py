"""Photos of one name are told apart, and photos that moved are found again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from visattn.cli.figure_stored import load
from visattn.errors import ConfigError
from visattn.figures import caption, figure, save_maps, warnings
from visattn.figures.photos import photo_key, photo_names
from visattn.saliency import SaliencyMap


def of(make_map: Any, path: str, key: str = "", **facts: Any) -> SaliencyMap:
    """Return a map of a photo at ``path``; photos of other paths have other pixels and hashes."""
    found = make_map(name="cat", **facts)
    assert found.photo is not None
    pixels = found.photo.pixels.copy()
    pixels[0, 0] = list(hashlib.sha256((key or path).encode()).digest()[:3])
    photo = replace(found.photo, pixels=pixels, path=Path(path), sha256="")
    image = {"path": path, "sha256": photo.sha256}
    return replace(found, photo=photo, provenance={**found.provenance, "image": image})


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/cat.jpg", "b/dog.jpg"], ["cat", "dog"]),
        (["a/cat.jpg", "b/cat.jpg", "b/dog.jpg"], ["a/cat", "b/cat", "dog"]),
        (["x/a/y/cat.jpg", "x/b/y/cat.jpg"], ["a/y/cat", "b/y/cat"]),
        (["cat.jpg", "b/cat.jpg"], ["cat", "b/cat"]),
        (["a/cat.jpg", "a/cat.png"], ["cat.jpg", "cat.png"]),
    ],
)
def test_the_shortest_path_that_tells_photos_apart(
    make_map: Any, paths: list[str], names: list[str]
) -> None:
    maps = [of(make_map, path) for path in paths]
    found = photo_names(maps)
    assert [found[photo_key(each)] for each in maps] == names


def test_one_path_that_held_two_photos(make_map: Any) -> None:
    maps = [of(make_map, "a/cat.jpg", key) for key in ("before", "after")]
    names = list(photo_names(maps).values())
    assert names == [f"cat ({photo_key(each)[:6]})" for each in maps]


def test_rows_captions_and_warnings_tell_them_apart(make_map: Any, tmp_path: Path) -> None:
    rows = [[of(make_map, f"{name}/cat.jpg", warnings=(f"see {name}",))] for name in "ab"]
    said = [text.get_text() for text in figure(rows).texts]
    assert "a/cat" in said
    assert "b/cat" in said
    assert "on a/cat and b/cat" in caption(rows)
    assert warnings(rows) == ["gradcam a/cat: see a", "gradcam b/cat: see b"]
    silent = replace(rows[1][0], silence="it is dark")
    assert "No signal: gradcam b/cat (it is dark)" in caption([rows[0], [silent]])
    first, second = save_maps(rows, tmp_path)
    assert "a-cat" in first.name
    assert "b-cat" in second.name


def test_stored_maps_of_two_photos_of_one_name_are_two_rows(make_map: Any, tmp_path: Path) -> None:
    maps = [
        of(make_map, f"{name}/cat.jpg", method=method) for name in "ab" for method in ("x", "y")
    ]
    rows = load(save_maps([maps], tmp_path), "images")
    assert [[each.method for each in row if each] for row in rows] == [["x", "y"], ["x", "y"]]
    assert len({photo_key(row[0]) for row in rows if row[0]}) == 2


def test_stored_rows_have_one_order_whatever_that_of_the_files(
    make_map: Any, tmp_path: Path
) -> None:
    maps = [
        of(make_map, f"{name}.jpg", method=method, changed={"layers": layer})
        for name in ("cat", "dog")
        for method, layer in (("x", 0), ("y", 0), ("x", 1))
    ]
    paths = save_maps([maps], tmp_path)
    shuffled = [paths[index] for index in (1, 5, 0, 2, 4, 3)]
    rows = load(shuffled, "images")
    wanted = [("y", 0), ("x", 0), ("x", 1)]
    for row in rows:
        found = [(each.method, each.provenance["changed"]["layers"]) for each in row if each]
        assert found == wanted
    rows = load(shuffled, "methods")
    assert len(rows) == 1, "y has one layer, x has two"


def stored(tmp_path: Path, make_map: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a map of a photo that was given by a path relative to its working directory."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    file = Path("photos") / "a[1].png"
    PillowImage.fromarray(np.full((60, 100, 3), 90, np.uint8)).save(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    found = make_map()
    image = {"path": str(file), "sha256": digest}
    found = replace(found, photo=None, provenance={**found.provenance, "image": image})
    return save_maps([[found]], "maps")[0].absolute()


def test_a_stored_map_is_drawn_from_another_directory(
    make_map: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path, make_map, monkeypatch)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert SaliencyMap.load(path).photograph().pixels[0, 0, 0] == 90


def test_photos_that_moved_are_found_by_name_and_content(
    make_map: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path, make_map, monkeypatch)
    moved = tmp_path / "new" / "deep"
    moved.mkdir(parents=True)
    (tmp_path / "photos" / "a[1].png").rename(moved / "a[1].png")
    decoy = tmp_path / "new" / "a[1].png"
    PillowImage.fromarray(np.zeros((60, 100, 3), np.uint8)).save(decoy)
    ((found,),) = load([path], "images", tmp_path / "new")
    assert found is not None
    assert found.photograph().path == moved / "a[1].png"
    (moved / "a[1].png").unlink()
    with pytest.raises(ConfigError, match="is another photo, or has changed"):
        load([path], "images", tmp_path / "new")
    decoy.unlink()
    with pytest.raises(ConfigError, match=r"no a\[1\].png is there"):
        load([path], "images", tmp_path / "new")
