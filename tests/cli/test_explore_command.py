"""``visattn explore``: one photo, one page, as a user types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_command import Command, Done

from visattn.cli.explore import layers_of
from visattn.errors import ConfigError

VIT = ("--model", "test_vit", "--weights", "random", "--device", "cpu")


@pytest.fixture
def explore(visattn_command: Command, photo: Path, tmp_path: Path) -> Any:
    def run(*arguments: object, out: str = "page.html", image: Path = photo) -> Done:
        return visattn_command("explore", image, *VIT, "--out", tmp_path / out, *arguments)

    return run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"photos"}


def test_one_photo_is_one_page(explore: Any, tmp_path: Path) -> None:
    done = explore("--target", "Egyptian cat", "--layers", "-2:", "--image-size", "96x128")
    assert (done.code, done.out) == (0, f"{tmp_path / 'page.html'}\n"), done.err
    assert files(tmp_path) == {"page.html"}
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '"embedded":[4,5]' in text
    assert '"input":[96,128]' in text
    assert "Egyptian cat" in text


def test_the_page_names_no_other_file_and_no_folder(explore: Any, tmp_path: Path) -> None:
    assert explore().code == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "http" not in text.replace("http-equiv", "")


def test_a_page_that_is_too_large_to_mail_says_so(
    explore: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "mail" not in explore().err
    monkeypatch.setattr("visattn.cli.explore.MAILED", 0)
    done = explore()
    assert done.code == 0
    assert "more than many mail servers take (0 MB); --layers embeds fewer" in done.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--layers", "last"], "--layers 'last' is none of"),
        (["--layers", "99"], "layers=[99]"),
        (["--target", "Egyptian cta"], "Did you mean 'Egyptian cat'?"),
        (["--image-size", "96x"], "neither 448 nor 384x512"),
        (["--model", "test_vti"], "Did you mean 'test_vit'?"),
        (["--model", "test_resnet"], "cannot be explored"),
    ],
)
def test_mistakes_are_exit_code_2_and_nothing_is_written(
    explore: Any, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = explore(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("visattn: ")
    assert told in done.err
    assert files(tmp_path) == set()


def test_other_suffixes_and_missing_photos(explore: Any, tmp_path: Path) -> None:
    assert "one HTML file" in explore(out="page.png").err
    missing = explore(image=tmp_path / "missing.jpg")
    assert missing.code == 2
    assert "missing.jpg" in missing.err
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        (None, None), ("11", [11]), ("-1", [-1]), ("0, 5,-1", [0, 5, -1]),
        ("6:", slice(6, None)), (":-2", slice(None, -2)), ("2:4", slice(2, 4)),
    ],
)  # fmt: skip
def test_layers(text: str | None, layers: Any) -> None:
    assert layers_of(text) == layers


@pytest.mark.parametrize("text", ["", "a", "1:2:3", "1,", "1.5", "::"])
def test_what_are_no_layers(text: str) -> None:
    with pytest.raises(ConfigError, match="--layers"):
        layers_of(text)
