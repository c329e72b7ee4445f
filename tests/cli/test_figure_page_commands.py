"""The commands on the page about figures run, on photos and weights that need no network."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import timm
import torch
from cli_command import Command

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"\.venv/bin/visattn (figure (?:[^\n]|\\\n)*)", PAGE.replace("\\\n", " "))
ROWS = re.findall(r"\| `visattn (figure [^`]+)` \|", PAGE)
PHOTOS = ["data/photos/cat.jpg", "data/photos/coffee.jpg"]
MODELS = {"gradcam": "packaged:efficientnet_lite0", "attention": "reference:vit", "gae": "test_vit"}


def filled(command: str) -> list[str]:
    """Return the arguments of a command of the table, its placeholders replaced by what is here."""
    known = {
        "PHOTO...": PHOTOS, "PHOTO": PHOTOS[:1], "M1": ["test_vit"], "M2": ["test_vit2"],
        "M": [next(model for method, model in MODELS.items() if method in command)],
    }  # fmt: skip
    words = [word for part in shlex.split(command) for word in known.get(part, [part])]
    words += ["--weights", "random"] if "test_vit2" in words else []
    return [*words, "-O", "masks=8"] if "rise" in words else words


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)


def test_the_page_has_commands() -> None:
    assert len(EXAMPLES) == 1
    assert len(ROWS) == 9


@pytest.mark.parametrize("command", EXAMPLES)
def test_an_example_runs_as_it_stands(visattn_command: Command, command: str) -> None:
    done = visattn_command(*shlex.split(command), "--dpi", "60")
    assert done.code == 0, done.err
    assert Path("fig.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("command", ROWS)
def test_a_row_of_the_table_runs(visattn_command: Command, command: str) -> None:
    if ".pth" in command:
        for name in ("a.pth", "b.pth"):
            torch.save(timm.create_model("test_vit").state_dict(), name)
    done = visattn_command(*filled(command), "--dpi", "60", "--out", "fig.pdf")
    assert done.code == 0, done.err
    assert Path("fig.pdf").read_bytes().startswith(b"%PDF")
