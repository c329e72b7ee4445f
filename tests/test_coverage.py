"""docs/coverage.md is true: its smallest members are examined again, its counts are timm's."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import timm
import torch

from tests import zoo
from visattn.adapters import ADAPTERS, find_adapter
from visattn.coverage import covered
from visattn.gates import gate_modules
from visattn.images import Size
from visattn.observation.census import census

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("\n## ")[0].splitlines()
    if line.startswith("| `")
]


def names_in(cell: str) -> set[str]:
    return {part.strip("() `") for part in cell.split(",")} - {"-"}


@pytest.mark.parametrize("row", ROWS, ids=[row[0].strip("`") for row in ROWS])
def test_a_row_is_true_of_its_smallest_member(row: list[str]) -> None:
    family, files, smallest, count, attending, fits, refused, tokens, methods = row
    name = smallest.strip("`")
    with torch.device("meta"):
        module = timm.create_model(name).eval()
        size = timm.data.resolve_model_data_config(module)["input_size"]
        seen = census(module, torch.zeros(1, *size))
    shapes = {operation.name: operation.shape for operation in seen.operations}
    found = covered(find_adapter(module), Size(*size[1:]), shapes)
    assert f"`{found.family}`" == family
    assert timm.models.model_entrypoint(name).__module__.rpartition(".")[2] in names_in(files)
    assert seen.operations
    assert int(attending) <= int(count)
    assert found.misfits == ()
    assert seen.missed == ()
    assert found.refusal is None or int(refused) > 0
    assert found.layout or found.refusal is None or int(fits) < int(attending)
    assert set(found.layout) <= names_in(tokens)
    everywhere = {part.strip() for part in methods.split(",") if not part.strip().startswith("(")}
    assert everywhere <= set(found.methods) <= names_in(methods) | {"random", "center"}


def test_every_architecture_is_counted() -> None:
    said = re.search(r"sweep over all architectures of timm (\S+),", PAGE)
    assert said is not None
    if said[1] != timm.__version__:
        pytest.skip(f"the page is about timm {said[1]}, installed is {timm.__version__}")
    alone = [int(count) for count in re.findall(r"^- `\w+`: (\d+) arch", PAGE, flags=re.MULTILINE)]
    assert sum(int(row[3]) for row in ROWS) + sum(alone) == len(timm.list_models())


def test_every_family_is_on_the_page() -> None:
    listed = set(
        re.findall(r"^(?:\| |- )`(\w+)`", PAGE.partition("\n## Gates")[0], flags=re.MULTILINE)
    )
    unlisted = set(ADAPTERS.names()) - listed
    # Attention that no registered architecture of timm uses, proven on members of the zoo.
    assert unlisted <= {find_adapter(zoo.build(name)).family for name in zoo.FAMILIES}
    assert unlisted <= {"non_local"}


def test_nothing_with_attention_is_without_an_adapter() -> None:
    assert "without an adapter: none" in " ".join(PAGE.split())


GATED = (
    "test_efficientnet", "resnest14d", "skresnet18", "gcresnext26ts", "lambda_resnet26t",
    "bat_resnext26ts", "ghostnetv2_100", "hgnet_tiny", "csatv2", "ecaresnet26t", "rexnet_100",
    "seresnet18", "legacy_seresnet18", "resnet50_clip", "halonet26t", "botnet26t_256",
)  # fmt: skip
ATTENDING = ("resnet50_clip", "halonet26t", "botnet26t_256")


@pytest.mark.parametrize("name", GATED)
def test_every_gate_module_that_runs_shows_its_gates(name: str) -> None:
    """One architecture for each class of gates; attention of convolutional networks attends."""
    with torch.device("meta"):
        module = timm.create_model(name).eval()
        size = timm.data.resolve_model_data_config(module)["input_size"]
        seen = census(module, torch.zeros(1, *size))
    kinds = {part.name: part.kinds for part in gate_modules(module)}
    assert {gate.name: gate.seen for gate in seen.gates} == kinds
    assert seen.missed == ()
    assert bool(kinds) != (name in ATTENDING)
    assert bool(seen.operations) or name not in ATTENDING


@pytest.fixture
def writer() -> ModuleType:
    path = ROOT / "scripts" / "write_coverage.py"
    spec = importlib.util.spec_from_file_location("write_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(name: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "architecture": name, "file": "some", "family": "some", "operations": 2, "misfits": [],
        "refusal": None, "layout": ["windows"], "methods": ["rollout", "random"], "gates": {},
        "missed": [],
        "others": {}, "parameters": 7,
    }  # fmt: skip
    return {**plain, **changes}


def test_the_page_counts_what_does_not_fit(
    writer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        line("one"),
        line("two", misfits=["attn has no place"], parameters=3, methods=["gradcam"]),
        line("three", refusal="why", layout=[], methods=["gradcam"]),
        line("four", family="unknown", gates={"SEModule": 3}),
        line("five", family="plain", operations=0, others={"lambda": 2}, gates={"SEModule": 1}),
        line("six", family="plain", gates={"Eca": 1}, missed=["a (Eca): why"], operations=0),
    ]
    page = writer.page(lines)
    assert "| `some` | some | `two` | 3 | 3 | 1 | 1 | windows | (gradcam), (rollout) |" in page
    assert "without an adapter: four" in page
    assert "3 architectures have 5 modules of registered gate classes" in page
    assert "In 2 of them every module" in page
    assert "missed: six (a (Eca): why)." in page
    assert "| `SEModule` | 2 | 4 |" in page
    assert "- `plain`: 2 architectures (some); computed instead: lambda. Methods: rollout." in page
    sweep = tmp_path / "sweep.jsonl"
    import json

    sweep.write_text("\n".join(map(json.dumps, lines)))
    out = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["write", "--sweep", str(sweep), "--out", str(out)])
    assert writer.main() == 0
    assert out.read_text() == page
