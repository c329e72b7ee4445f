"""The public names: sorted, importable, and free of charge until they are used."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import visattn

HEAVY = (
    "captum",
    "cv2",
    "matplotlib",
    "pandas",
    "scipy",
    "skimage",
    "timm",
    "torch",
    "torchvision",
)

PROMISED = {
    "AttentionRecord", "CaptureError", "ConfigError", "ImageError", "Model", "ModelError", "Pixel",
    "SaliencyMap", "SimilarityTarget", "TargetError", "UnsupportedMethodError", "VisattnError",
    "WeightsError", "capture", "explain", "inspect_model", "list_methods", "list_models",
    "load_model",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Return which heavy libraries a fresh interpreter has loaded after running ``code``."""
    report = f"{code}\nimport sys\nprint(*(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def unsorted_names(names: list[str]) -> list[tuple[str, str]]:
    """Return neighbours in the wrong order, or twice the same."""
    return [(a, b) for a, b in itertools.pairwise(names) if a >= b]


def test_names_are_sorted_and_unique() -> None:
    assert unsorted_names(visattn.__all__) == []


@pytest.mark.parametrize("planted", [["b", "a"], ["a", "a"], ["a", "c", "b"]])
def test_a_disordered_list_would_be_noticed(planted: list[str]) -> None:
    assert unsorted_names(planted)


def test_the_promised_names_are_public() -> None:
    assert set(visattn.__all__) >= PROMISED


@pytest.mark.parametrize("name", visattn.__all__)
def test_each_name_can_be_imported(name: str) -> None:
    value = getattr(visattn, name)
    assert callable(value)
    assert value.__doc__


def test_names_declared_for_type_checkers_are_those_that_exist() -> None:
    tree = ast.parse(Path(visattn.__file__).read_text(encoding="utf-8"))
    declared = {
        alias.name: (node.module or "").removeprefix("visattn.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("visattn.")
        for alias in node.names
    }
    assert declared == visattn._HOMES
    assert sorted(declared) == visattn.__all__


def test_dir_lists_what_has_not_been_loaded_yet() -> None:
    code = "import visattn; print(set(visattn.__all__) <= set(dir(visattn)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'expain'"):
        visattn.expain  # noqa: B018


def test_import_loads_no_heavy_library() -> None:
    assert loaded_by("import visattn") == set()


def test_a_heavy_import_would_be_noticed() -> None:
    assert loaded_by("import visattn; visattn.load_model") >= {"torch"}
    assert loaded_by("import visattn, matplotlib") == {"matplotlib"}


def test_names_that_need_no_model_load_no_torch() -> None:
    light = "Geometry", "Image", "Pixel", "SaliencyMap", "VisattnError", "load_image"
    code = "; ".join(f"visattn.{name}" for name in light)
    assert "torch" not in loaded_by(f"import visattn; {code}")


def test_the_command_line_answers_without_torch() -> None:
    assert loaded_by("import visattn.cli.app; visattn.cli.app.build()") == set()


def test_every_error_is_a_visattn_error() -> None:
    errors = [getattr(visattn, name) for name in visattn.__all__ if name.endswith("Error")]
    assert len(errors) == 8
    assert all(issubclass(error, visattn.VisattnError) for error in errors)
    assert issubclass(visattn.WeightsError, visattn.ModelError)
