"""Who may import whom: a module imports only what stands before it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import visattn

PACKAGE = Path(visattn.__file__).parent

PICTURES = (
    "errors", "registry", "options", "settings", "atomic", "progress", "images", "geometry",
    "normalization", "statistics", "channels", "saliency", "overlay", "figures",
)  # fmt: skip
MODELS = (
    "query", "tokens", "adapters", "models", "targets", "propagation", "gates", "observation",
    "outliers", "methods", "head_statistics", "sinks", "gate_statistics", "registers",
    "explanation", "coverage", "inspection", "evaluation", "gallery", "explorer", "cli",
    "__main__",
)  # fmt: skip
ROOMS = (*PICTURES, *MODELS)

EXCEPTIONS = {
    ("saliency", "overlay"): "SaliencyMap.overlay() is the public way to draw; loaded when called",
}

# Libraries that a room must not import at all, and those it must not import when it is imported.
NEVER = {
    **dict.fromkeys(PICTURES, ("torch", "torchvision", "timm", "captum")),
    "query": ("torch", "torchvision", "timm", "captum"),
    "methods": ("timm", "torchvision", "transformers", "open_clip"),
    "outliers": ("timm", "torchvision", "transformers", "open_clip"),
    "sinks": ("timm", "torchvision", "transformers", "open_clip"),
    "registers": ("timm", "torchvision", "transformers", "open_clip"),
    "propagation": ("timm", "torchvision", "transformers", "open_clip"),
    "evaluation": ("timm", "torchvision", "transformers", "open_clip"),
}
NOT_AT_IMPORT = {
    "adapters": ("timm", "torchvision", "transformers", "open_clip"),
    "cli": ("torch", "timm", "matplotlib", "cv2", "skimage"),
}


@dataclass(frozen=True)
class Import:
    """One import of ``name`` by ``module``; ``lazy`` when it stands inside a function."""

    module: str
    name: str
    line: int
    lazy: bool

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.name}"


def room_of(name: str) -> str:
    """Return the room of a dotted module name; the package itself is ''."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def sources() -> dict[str, str]:
    """Return the text of every module of the package by dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("visattn", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def imports(module: str, text: str) -> Iterator[Import]:
    """Yield every import; a public name used as ``visattn.name`` is an import of its home."""
    tree = ast.parse(text)
    inside = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        for name in _imported(node):
            yield Import(module, name, getattr(node, "lineno", 0), id(node) in inside)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name != "visattn"]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            return [f"visattn.{'.' * node.level}{node.module or ''}"]
        if node.module == "visattn":
            return [f"visattn.{visattn._HOMES.get(a.name, a.name)}" for a in node.names]
        return [node.module or ""]
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "visattn":
        return [f"visattn.{visattn._HOMES[node.attr]}"] if node.attr in visattn._HOMES else []
    return []


def violations(modules: Mapping[str, str]) -> list[str]:
    """Return every breach of the order and of the library rules, in words."""
    found = []
    for module, text in modules.items():
        room = room_of(module)
        if room == "":
            continue
        if room not in ROOMS:
            found.append(f"{module}: room {room!r} has no place yet; add it to ROOMS in {__file__}")
            continue
        for item in imports(module, text):
            found += [f"{item}: {reason}" for reason in _breaches(room, item)]
    return found


def _breaches(room: str, item: Import) -> Iterator[str]:
    library = item.name.split(".")[0]
    if library in NEVER.get(room, ()):
        yield f"{room} never imports {library}"
    if not item.lazy and library in NOT_AT_IMPORT.get(room, ()):
        yield f"{room} imports {library} only inside functions"
    if library != "visattn":
        return
    other = room_of(item.name)
    if other.startswith((".", "__")) or other not in ROOMS:
        if other != "__version__":
            yield "not a room; import visattn.room by its full name"
    elif ROOMS.index(other) > ROOMS.index(room):
        if (room, other) not in EXCEPTIONS:
            yield f"{other} stands after {room}"
        elif not item.lazy:
            yield f"the exception for {other} holds inside functions only"


def test_every_module_imports_only_what_stands_before_it() -> None:
    assert violations(sources()) == []


def test_every_room_in_the_order_exists() -> None:
    assert {room_of(module) for module in sources()} - {""} == set(ROOMS)


@pytest.mark.parametrize("pair", EXCEPTIONS, ids="->".join)
def test_every_exception_is_still_needed(pair: tuple[str, str]) -> None:
    needed = {
        (room_of(module), room_of(item.name))
        for module, text in sources().items()
        for item in imports(module, text)
    }
    assert pair in needed


@pytest.mark.parametrize(
    ("module", "planted", "told"),
    [
        ("visattn.geometry", "from visattn.saliency import SaliencyMap", "saliency stands after"),
        ("visattn.methods.rollout", "import visattn.explanation", "explanation stands after"),
        ("visattn.models.model", "import visattn\nvisattn.explain", "explanation stands after"),
        ("visattn.targets", "from visattn import capture", "observation stands after"),
        ("visattn.adapters.eva", "def f():\n    import visattn.models.timm", "models stands after"),
        ("visattn.saliency", "from visattn.overlay import draw", "inside functions only"),
        ("visattn.overlay.draw", "def f():\n    import torch", "overlay never imports torch"),
        ("visattn.figures.page", "import torch.nn", "figures never imports torch"),
        ("visattn.images", "from torchvision import io", "images never imports torchvision"),
        ("visattn.methods.gae", "from timm import layers", "methods never imports timm"),
        ("visattn.adapters.beit", "import timm.models.beit", "timm only inside functions"),
        ("visattn.cli.app", "import torch", "torch only inside functions"),
        ("visattn.overlay.draw", "from . import heat", "full name"),
        ("visattn.overlay.draw", "from .. import heat", "full name"),
        ("visattn.attic", "", "add it to ROOMS"),
    ],
)
def test_a_planted_violation_is_found(module: str, planted: str, told: str) -> None:
    modules = sources()
    known = violations(modules)
    modules[module] = f"{modules.get(module, '')}\n{planted}\n"
    (found,) = set(violations(modules)) - set(known)
    assert module in found
    assert told in found


def test_a_lazy_import_of_a_model_library_is_allowed_in_an_adapter() -> None:
    modules = sources()
    known = violations(modules)
    modules["visattn.adapters.beit"] += "\ndef later():\n    import timm\n"
    assert violations(modules) == known


def loads_torch(code: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip() == "True"


def test_drawing_loads_no_torch_not_even_through_others() -> None:
    everything = "; ".join(f"import visattn.{room}" for room in (*PICTURES, "query"))
    assert not loads_torch(everything)
    assert loads_torch(f"{everything}; import visattn.adapters")
