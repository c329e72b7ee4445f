"""``visattn explain``: one photo, one method, one file, as a user types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from cli_command import Command, Done
from PIL import Image as PillowImage

from visattn.saliency import SaliencyMap

VIT = ("--model", "test_vit", "--weights", "random", "--device", "cpu")


@pytest.fixture
def explain(visattn_command: Command, photo: Path, tmp_path: Path) -> Any:
    def run(*arguments: object, out: str = "map.npz", image: Path = photo) -> Done:
        return visattn_command("explain", image, *VIT, "--out", tmp_path / out, *arguments)

    return run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"photos"}


@pytest.mark.parametrize(
    ("out", "start"),
    [
        ("map.png", b"\x89PNG"), ("map.jpg", b"\xff\xd8"), ("map.jpeg", b"\xff\xd8"),
        ("map.webp", b"RIFF"), ("map.pdf", b"%PDF"), ("map.svg", b"<?xml"), ("map.npz", b"PK"),
        ("MAP.PNG", b"\x89PNG"),
    ],
)  # fmt: skip
def test_the_suffix_chooses_the_format(
    explain: Any, tmp_path: Path, out: str, start: bytes
) -> None:
    done = explain("--method", "rollout", out=out)
    assert (done.code, done.out.strip()) == (0, str(tmp_path / out)), done.err
    assert (tmp_path / out).read_bytes().startswith(start)
    assert files(tmp_path) == {out}


def test_the_picture_has_the_photos_width_and_strips_below(explain: Any, tmp_path: Path) -> None:
    assert explain("--method", "rollout", out="map.png").code == 0
    with PillowImage.open(tmp_path / "map.png") as drawn:
        assert drawn.mode == "RGB"
        assert drawn.width == 250
        assert drawn.height > 160
    bare = ("--style", "caption=False", "-S", "colorbar=False")
    assert explain("--method", "rollout", *bare, out="bare.png").code == 0
    with PillowImage.open(tmp_path / "bare.png") as drawn:
        assert drawn.size == (250, 160)


def test_a_class_is_explained_by_name_or_number(explain: Any, tmp_path: Path) -> None:
    for target, out in (("Egyptian cat", "name.npz"), ("285", "number.npz")):
        done = explain("--method", "gae", "--target", target, out=out)
        assert done.code == 0, done.err
    name, number = (SaliencyMap.load(tmp_path / f"{n}.npz") for n in ("name", "number"))
    assert name.target is not None
    assert number.target is not None
    assert (name.target.index, name.target.label) == (285, "Egyptian cat")
    assert (number.target.index, number.target.label) == (285, "Egyptian cat")
    assert number.on_image().shape == (160, 250)


def test_warnings_go_to_stderr_and_the_path_alone_to_stdout(explain: Any, tmp_path: Path) -> None:
    done = explain("--method", "gae", "--target", "285")
    assert done.out == f"{tmp_path / 'map.npz'}\n"
    assert "warning: the model gives Egyptian cat only" in done.err


def test_method_options_are_passed_on(explain: Any, tmp_path: Path) -> None:
    done = explain("--method", "rollout", "-O", "layers=[-1]", "--option", "heads=max")
    assert done.code == 0, done.err
    options = SaliencyMap.load(tmp_path / "map.npz").provenance["options"]
    assert (options["layers"], options["heads"]) == ([-1], "max")


def test_the_method_may_be_left_to_visattn(explain: Any, tmp_path: Path) -> None:
    assert explain().code == 0
    assert SaliencyMap.load(tmp_path / "map.npz").method == "cp_lrp"


def test_image_size(explain: Any, tmp_path: Path) -> None:
    assert explain("--method", "rollout", "--image-size", "96x128").code == 0
    found = SaliencyMap.load(tmp_path / "map.npz")
    assert found.grid.shape == (6, 8)
    assert found.geometry.input == (96, 128)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--method", "rolout"], "Did you mean 'rollout'?"),
        (["--method", "rollout", "--target", "285"], "class-agnostic"),
        (["--method", "gae", "--target", "Egyptian cta"], "Did you mean 'Egyptian cat'?"),
        (["--method", "gae", "--target", "1000"], "classes 0 to 999"),
        (["--method", "rollout", "-O", "residul=0.5"], "Did you mean 'residual'?"),
        (["--method", "rollout", "-O", "residual=2"], "residual=2 is not a number in [0, 1)"),
        (["--method", "rollout", "-O", "residual"], "not of the form name=value"),
        (["--method", "rollout", "-O", "=3"], "not of the form name=value"),
        (["--method", "rollout", "-O", "layers=[99]"], "layers=[99]"),
        (["--method", "rollout", "-S", "colourmap=viridis"], "Did you mean 'colormap'?"),
        (["--method", "rollout", "-S", "opacity=7"], "opacity is a number from 0 to 1"),
        (["--method", "rollout", "--image-size", "96x"], "neither 448 nor 384x512"),
        (["--model", "test_vti"], "Did you mean 'test_vit'?"),
        (["--weights", "missing.safetensors"], "no checkpoint missing.safetensors"),
    ],
)
def test_mistakes_are_exit_code_2_and_nothing_is_written(
    explain: Any, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = explain(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("visattn: ")
    assert told in done.err
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("method", "option"),
    [
        ("rollout", "residual=abc"),
        ("rollout", "residual=None"),
        ("rollout", "residual=[1]"),
        ("rollout", "start_layer=1.5"),
        ("random", "seed=abc"),
        ("gae", "start_layer=first"),
        ("integrated_gradients", "steps=2.5"),
        ("integrated_gradients", "steps=many"),
        ("gradcam", "layer=3"),
    ],
)
def test_an_option_of_the_wrong_kind_is_a_mistake_of_the_user(
    explain: Any, tmp_path: Path, method: str, option: str
) -> None:
    done = explain("--method", method, "-O", option)
    assert (done.code, done.out) == (2, "")
    assert option.split("=")[1] in done.err
    assert files(tmp_path) == set()


@pytest.mark.parametrize("out", ["map.docx", "map", "map.tif"])
def test_an_unknown_format_is_refused_before_any_work(
    explain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was built")

    monkeypatch.setattr(timm, "create_model", never)
    done = explain(out=out)
    assert done.code == 2
    assert ".png, .jpg" in done.err
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("gone.jpg", None, "gone.jpg: cannot be read"),
        ("empty.jpg", b"", "empty.jpg: the file is empty"),
        ("text.jpg", b"hello", "text.jpg: not an image"),
    ],
)
def test_a_photo_that_cannot_be_read_is_named(
    explain: Any, tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    path = tmp_path / "photos" / name
    if content is not None:
        path.write_bytes(content)
    done = explain("--method", "rollout", image=path)
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert files(tmp_path) == set()


def test_a_failure_leaves_the_old_file(explain: Any, tmp_path: Path) -> None:
    (tmp_path / "map.npz").write_bytes(b"old")
    assert explain("--method", "rollout", "--target", "3").code == 2
    assert (tmp_path / "map.npz").read_bytes() == b"old"


def test_the_hub_out_of_reach_is_one_line(
    explain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", unreachable)
    done = explain("--weights", "pretrained")
    assert (done.code, done.out) == (2, "")
    assert "no route to host" in done.err
    assert "packaged:dinov2_small" in done.err
    assert done.err.count("\n") == 1
    assert files(tmp_path) == set()


def test_the_same_command_gives_the_same_map(explain: Any, tmp_path: Path) -> None:
    import torch

    grids = []
    for out in ("a.npz", "b.npz"):
        torch.manual_seed(0)
        assert explain("--method", "gae", out=out).code == 0
        grids.append(SaliencyMap.load(tmp_path / out).grid)
    assert np.array_equal(*grids)


def test_a_stored_map_finds_its_photo_from_another_directory(
    explain: Any, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    assert explain("--method", "rollout", image=Path(photo.name)).code == 0
    monkeypatch.chdir(tmp_path)
    assert SaliencyMap.load(tmp_path / "map.npz").photograph().path == photo
