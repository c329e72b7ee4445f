"""SaliencyMap: frozen, complete on disk, honest about its photo."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from visattn.errors import ConfigError, ImageError
from visattn.geometry import Affine, Geometry
from visattn.images import Image, Size, load_image
from visattn.saliency import SaliencyMap, Target

PHOTO = Size(24, 40)
GRID = np.array([[0.1, 0.2, 0.3], [0.4, 0.9, 0.5]], np.float32)


def chain(grid: Size) -> Geometry:
    back = Affine((1.0, 1.0), (2.0, 5.0))
    return Geometry(Size(20, 30), Size(20, 30), PHOTO, Affine(), back).with_grid(grid)


def a_map(grid: Any = GRID, **facts: Any) -> SaliencyMap:
    grid = np.asarray(grid, np.float32)
    facts = {"method": "gae", "model": "vit", **facts}
    return SaliencyMap(grid, chain(Size(*grid.shape)), **facts)


def full_map(**facts: Any) -> SaliencyMap:
    return a_map(
        signed=True,
        target=Target(285, 'Ägyptische "Katze"', 0.1 + 0.2),
        prediction=Target(1, "dog"),
        warnings=("no signal: all cells are zero", "first of 3 frames"),
        statistics={"entropy": 1.25, "gini": None},
        provenance={
            "image": {"path": str(Path("a/b.jpg").absolute()), "sha256": "00"},
            "options": {"layers": [1, 2]},
        },
        **facts,
    )


def photo_file(path: Path, value: int = 90) -> Image:
    PillowImage.new("RGB", (PHOTO.width, PHOTO.height), (value, 10, 200)).save(path)
    return load_image(path)


def with_photo(image: Image) -> SaliencyMap:
    source = {"path": str(image.path), "sha256": image.sha256}
    return a_map(provenance={"image": source})


# Storage --------------------------------------------------------------------------------------


def test_what_is_saved_is_loaded_to_the_last_digit(tmp_path: Path) -> None:
    saved = full_map()
    loaded = SaliencyMap.load(saved.save(tmp_path / "deep" / "map.npz"))
    for field in dataclasses.fields(SaliencyMap):
        if field.name == "grid":
            assert loaded.grid.dtype == np.float32
            assert np.array_equal(loaded.grid, saved.grid)
        else:
            assert getattr(loaded, field.name) == getattr(saved, field.name), field.name


@pytest.mark.parametrize(
    "grid",
    [
        np.array([[np.nan, np.inf], [-np.inf, -0.0]]),
        np.array([[np.float32(1e-45), np.finfo(np.float32).max]]),
        np.random.default_rng(0).normal(size=(37, 50)),
    ],
)
def test_extreme_values_survive(tmp_path: Path, grid: np.ndarray) -> None:
    saved = a_map(grid)
    loaded = SaliencyMap.load(saved.save(tmp_path / "map.npz"))
    assert loaded.grid.tobytes() == saved.grid.tobytes()
    assert loaded.target is None
    assert loaded.prediction is None


def test_a_saved_map_draws_the_same_values(tmp_path: Path) -> None:
    saved = a_map()
    loaded = SaliencyMap.load(str(saved.save(str(tmp_path / "map.npz"))))
    assert np.array_equal(loaded.on_image(), saved.on_image(), equal_nan=True)
    assert np.array_equal(loaded.on_input(), saved.on_input())


def test_saving_returns_the_path_and_leaves_no_litter(tmp_path: Path) -> None:
    assert a_map().save(tmp_path / "map.npz") == tmp_path / "map.npz"
    a_map().save(tmp_path / "map.npz")
    assert list(tmp_path.iterdir()) == [tmp_path / "map.npz"]


@pytest.mark.parametrize("name", ["map.png", "map", "map.npy", "npz"])
def test_another_suffix_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"saved as \.npz, not as '{name}'"):
        a_map().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def written(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def facts_of(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return dict(json.loads(str(stored["facts"])))


def test_what_is_no_map_is_refused_by_name(tmp_path: Path) -> None:
    whole = full_map().save(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("not a map")
    (tmp_path / "empty.npz").touch()
    (tmp_path / "folder.npz").mkdir()
    np.save(tmp_path / "array.npy", GRID)
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    written(tmp_path / "other.npz", weights=GRID)
    written(tmp_path / "prose.npz", grid=GRID, facts=np.array("not json"))
    written(tmp_path / "pickle.npz", grid=GRID, facts=np.array({"format": 1}, dtype=object))
    names = ["cut", "text", "empty", "folder", "array", "other", "prose", "pickle", "missing"]
    for name in names:
        with pytest.raises(ConfigError, match=rf"{name}\.npz is not a saved map"):
            SaliencyMap.load(tmp_path / f"{name}.npz")


def test_a_damaged_byte_is_noticed(tmp_path: Path) -> None:
    grid = np.random.default_rng(0).normal(size=(30, 30))
    path = a_map(grid).save(tmp_path / "map.npz")
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="not a saved map"):
        SaliencyMap.load(path)


def test_whatever_the_bytes_are_the_answer_is_the_map_or_a_config_error(tmp_path: Path) -> None:
    saved = full_map()
    data = saved.save(tmp_path / "map.npz").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        broken = bytearray(data)
        broken[generator.integers(len(data))] ^= 1 << int(generator.integers(8))
        (tmp_path / "map.npz").write_bytes(broken)
        try:
            loaded = SaliencyMap.load(tmp_path / "map.npz")
        except ConfigError:
            refused += 1
        else:
            assert np.array_equal(loaded.grid, saved.grid)
            assert loaded.target == saved.target
    assert refused > 50


@pytest.mark.parametrize("missing", ["format", "geometry", "method", "signed", "warnings"])
def test_a_file_without_one_of_its_facts_is_refused(tmp_path: Path, missing: str) -> None:
    facts = facts_of(full_map().save(tmp_path / "map.npz"))
    del facts[missing]
    written(tmp_path / "less.npz", grid=GRID, facts=np.array(json.dumps(facts)))
    with pytest.raises(ConfigError, match=r"less\.npz"):
        SaliencyMap.load(tmp_path / "less.npz")


def test_a_grid_that_is_not_the_geometrys_is_refused(tmp_path: Path) -> None:
    facts = facts_of(full_map().save(tmp_path / "map.npz"))
    written(tmp_path / "odd.npz", grid=GRID.T, facts=np.array(json.dumps(facts)))
    with pytest.raises(ConfigError, match=r"odd\.npz"):
        SaliencyMap.load(tmp_path / "odd.npz")


def test_numpy_scalars_among_the_facts_become_plain_numbers(tmp_path: Path) -> None:
    saved = a_map(statistics={"gini": np.float32(0.5), "tokens": np.int64(3)})
    loaded = SaliencyMap.load(saved.save(tmp_path / "map.npz"))
    assert loaded.statistics == {"gini": 0.5, "tokens": 3}


def test_a_fact_that_cannot_be_stored_is_refused_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="set cannot be stored"):
        a_map(provenance={"layers": {1, 2}}).save(tmp_path / "map.npz")
    assert list(tmp_path.iterdir()) == []


def test_another_format_is_refused(tmp_path: Path) -> None:
    facts = {**facts_of(full_map().save(tmp_path / "map.npz")), "format": 99}
    written(tmp_path / "new.npz", grid=GRID, facts=np.array(json.dumps(facts)))
    with pytest.raises(ConfigError, match="has format 99; this version reads 1"):
        SaliencyMap.load(tmp_path / "new.npz")


# Values ---------------------------------------------------------------------------------------


def test_a_map_cannot_be_changed() -> None:
    found = a_map()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.method = "rollout"  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        found.grid[0, 0] = 7


def test_a_map_does_not_change_with_the_array_it_was_made_of() -> None:
    values = GRID.astype(np.float64)
    found = a_map(values)
    values[:] = 0
    assert np.array_equal(found.grid, GRID)
    own = np.array(GRID)
    found = SaliencyMap(own, chain(Size(2, 3)), "gae", "vit")
    own[:] = 0
    assert np.array_equal(found.grid, GRID)
    assert own.flags.writeable


def test_a_grid_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 2\) does not fit"):
        SaliencyMap(GRID.T, chain(Size(2, 3)), "gae", "vit")


def test_values_lie_where_the_geometry_says() -> None:
    found = a_map()
    on_image = found.on_image("nearest")
    assert on_image.shape == PHOTO
    assert on_image.dtype == found.on_input().dtype == np.float32
    assert found.on_input().shape == (20, 30)
    assert np.isnan(on_image[:2]).all()
    assert np.isnan(on_image[:, :5]).all()
    assert np.isnan(on_image[22:]).all()
    assert np.isfinite(on_image[2:22, 5:35]).all()
    assert set(on_image[12:22, 15:25].ravel()) == {np.float32(0.9)}


@pytest.mark.parametrize(
    ("name", "signed", "expected"),
    [
        (None, False, [[0, 0.5, 1]]),
        (None, True, [[-0.5, 0.25, 1]]),
        ("minmax", True, [[0, 0.5, 1]]),
        ("symmetric", False, [[-0.5, 0.25, 1]]),
        ("max", False, [[0, 0.25, 1]]),
        ("none", False, [[0, 1, 1]]),
        ("symmetric_percentile", True, [[-2 / 3.96, 1 / 3.96, 1]]),
    ],
)
def test_normalisations_by_name(name: str | None, signed: bool, expected: Any) -> None:
    found = a_map([[-2, 1, 4]], signed=signed)
    assert found.normalized(name) == pytest.approx(np.array(expected))
    assert found.grid.tolist() == [[-2, 1, 4]]


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'minmax'"):
        a_map().normalized("minmx")


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        ([[0, 0, 0]], "all cells are zero"),
        ([[0.5, 0.5, 0.5]], "all cells are equal to 0.5"),
        ([[np.nan, 1, 2]], "1 of 3 cells are not finite"),
    ],
)
def test_a_map_without_signal_says_why_and_is_drawn_as_zeros(grid: Any, reason: str) -> None:
    found = a_map(grid)
    assert str(found.no_signal).startswith(reason)
    for name in (None, "symmetric", "max"):
        assert found.normalized(name).tolist() == [[0, 0, 0]]


def test_a_map_with_signal_has_no_reason() -> None:
    assert a_map().no_signal is None


def test_the_representation_names_method_model_and_target() -> None:
    assert repr(a_map()) == "SaliencyMap(gae of vit, 2 x 3)"
    assert repr(a_map(target=Target(1, "dog"))) == "SaliencyMap(gae of vit, 2 x 3, target='dog')"


# The photo ------------------------------------------------------------------------------------


def test_the_photo_is_read_again_from_its_file(tmp_path: Path) -> None:
    image = photo_file(tmp_path / "p.png")
    found = SaliencyMap.load(with_photo(image).save(tmp_path / "map.npz"))
    assert np.array_equal(found.photograph().pixels, image.pixels)


def test_a_stored_map_finds_its_photo_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    photo_file(tmp_path / "p.png")
    monkeypatch.chdir(tmp_path)
    found = with_photo(load_image("p.png"))
    assert found.provenance["image"]["path"] == "p.png"
    found.save(tmp_path / "map.npz")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert SaliencyMap.load(tmp_path / "map.npz").photograph().path == tmp_path / "p.png"


def test_a_photo_that_has_changed_is_refused(tmp_path: Path) -> None:
    found = with_photo(photo_file(tmp_path / "p.png"))
    photo_file(tmp_path / "p.png", value=91)
    for use in (found.photograph, found.overlay):
        with pytest.raises(ImageError, match=r"p\.png has changed since"):
            use()


def test_a_photo_that_is_gone_is_refused(tmp_path: Path) -> None:
    found = with_photo(photo_file(tmp_path / "p.png"))
    (tmp_path / "p.png").unlink()
    with pytest.raises(ImageError, match=r"p\.png: cannot be read"):
        found.photograph()


def test_a_map_that_knows_no_photo_says_how_to_give_one() -> None:
    for found in (a_map(), a_map(provenance={"image": {"path": None, "sha256": "00"}})):
        with pytest.raises(ImageError, match=r"overlay\(photo=\.\.\.\)"):
            found.overlay()


def test_the_overlay_has_the_size_of_the_photo_and_accepts_another_source(tmp_path: Path) -> None:
    image = photo_file(tmp_path / "p.png")
    found = with_photo(image)
    drawn = found.overlay()
    assert (drawn.mode, drawn.size) == ("RGB", (PHOTO.width, PHOTO.height))
    for source in (image, image.path, image.pixels, image.pillow()):
        assert found.overlay(source).tobytes() == drawn.tobytes()
    assert a_map(photo=image).overlay().tobytes() == drawn.tobytes()


def test_drawing_options_are_checked(tmp_path: Path) -> None:
    found = with_photo(photo_file(tmp_path / "p.png"))
    with pytest.raises(ConfigError, match="Did you mean 'colormap'"):
        found.overlay(colourmap="viridis")
