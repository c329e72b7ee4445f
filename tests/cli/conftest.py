from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from cli_command import Command, Done
from PIL import Image as PillowImage

from visattn.cli.app import main


@pytest.fixture
def visattn_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``visattn ...`` in this process, through its real entry point."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["visattn", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return Done(int(left.value.code or 0), out, err)

    return run


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A landscape photograph, 160 x 250."""
    path = tmp_path / "photos" / "a cat.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (160, 250, 3), np.uint8)
    PillowImage.fromarray(pixels).save(path)
    return path


@pytest.fixture(autouse=True)
def _random_weights_are_the_same_in_every_test() -> None:
    import torch

    torch.manual_seed(0)
