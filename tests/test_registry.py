"""Registries: filled by walking a package, strict about names."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from visattn.errors import ConfigError, UnsupportedMethodError, VisattnError
from visattn.registry import Registry


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Registry]]:
    """Build a package of plugin files and the registry that walks it."""
    before = set(sys.modules)

    def build(**files: str) -> Registry:
        folder = tmp_path / "plugins"
        folder.mkdir()
        core = "from visattn.errors import ConfigError\nfrom visattn.registry import Registry\n"
        core += "BOXES = Registry('box', 'plugins', ConfigError)\n"
        for name, text in {"__init__": "", "core": core, **files}.items():
            (folder / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        from plugins.core import BOXES

        return BOXES

    yield build
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "plugins":
            del sys.modules[name]


def entry(name: str, value: int) -> str:
    return f"from plugins.core import BOXES\nBOXES.register({name!r})({value})\n"


def test_each_file_of_the_package_is_found_without_being_imported_by_anyone(
    package: Callable[..., Registry],
) -> None:
    boxes = package(zinc=entry("zinc", 1), amber=entry("amber", 2))
    assert "plugins.zinc" not in sys.modules, "the walk waits for the first question"
    assert boxes.names() == ("amber", "zinc")
    assert boxes.get("zinc") == 1


def test_an_unknown_name_is_refused_with_the_nearest_known_one(
    package: Callable[..., Registry],
) -> None:
    boxes = package(zinc=entry("zinc", 1), amber=entry("amber", 2))
    with pytest.raises(ConfigError, match=r"no box 'zink'\. Did you mean 'zinc'\?"):
        boxes.get("zink")
    with pytest.raises(ConfigError, match=r"Choose from: amber, zinc\."):
        boxes.get("something")


def test_a_name_registered_twice_is_refused(package: Callable[..., Registry]) -> None:
    boxes = package(zinc=entry("zinc", 1), brass=entry("zinc", 2))
    with pytest.raises(VisattnError, match="box 'zinc' is registered twice"):
        boxes.names()


def test_a_file_that_cannot_be_imported_is_named(package: Callable[..., Registry]) -> None:
    boxes = package(zinc=entry("zinc", 1), rust="1 / 0")
    with pytest.raises(VisattnError, match=r"plugins\.rust could not be imported: division"):
        boxes.get("zinc")


def test_a_broken_file_stays_an_error_at_the_next_question(
    package: Callable[..., Registry],
) -> None:
    boxes = package(amber=entry("amber", 2), rust="1 / 0")
    for _ in range(2):
        with pytest.raises(VisattnError, match=r"plugins\.rust"):
            boxes.names()


def test_register_returns_what_it_files_and_accepts_entries_from_outside(
    package: Callable[..., Registry],
) -> None:
    boxes = package(amber=entry("amber", 2))

    @boxes.register("mine")
    def mine() -> int:
        return 7

    assert mine() == 7
    assert boxes.get("mine") is mine
    assert boxes.names() == ("amber", "mine")


def test_the_registries_of_visattn_raise_their_own_errors() -> None:
    from visattn.methods import METHODS

    with pytest.raises(UnsupportedMethodError, match="Did you mean 'rollout'"):
        METHODS.get("rolout")


def test_a_withdrawn_entry_is_gone_and_its_name_free(package: Callable[..., Registry]) -> None:
    boxes = package(amber=entry("amber", 2))
    boxes.withdraw("amber")
    assert boxes.names() == ()
    boxes.register("amber")(3)
    assert boxes.get("amber") == 3
    with pytest.raises(ConfigError, match="no box 'zinc'"):
        boxes.withdraw("zinc")
