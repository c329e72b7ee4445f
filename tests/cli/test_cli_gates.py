"""Gates on the command line, as a user types it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_command import Command
from PIL import Image as PillowImage

from visattn.saliency import SaliencyMap

GATED = ("--model", "test_efficientnet", "--weights", "random", "--device", "cpu")


@pytest.mark.parametrize("out", ["sheet.png", "sheet.pdf", "sheet.svg", "sheet.npz"])
def test_channel_gates_become_a_sheet(
    visattn_command: Command, photo: Path, tmp_path: Path, out: str
) -> None:
    words = ("explain", photo, *GATED, "--method", "channel_gate", "-O", "top=4")
    done = visattn_command(*words, "--out", tmp_path / out)
    assert (done.code, done.out.strip()) == (0, str(tmp_path / out)), done.err
    if out.endswith(".png"):
        with PillowImage.open(tmp_path / out) as drawn:
            assert drawn.width > 1000
    if out.endswith(".npz"):
        found = SaliencyMap.load(tmp_path / out)
        assert found.channels is not None
        assert len(found.channels.order) == 4
        assert np.isfinite(found.channels.maps).all()


def test_a_jpeg_is_the_map_over_the_photo(
    visattn_command: Command, photo: Path, tmp_path: Path
) -> None:
    words = ("explain", photo, *GATED, "--method", "channel_gate", "-S", "caption=False")
    done = visattn_command(*words, "--out", tmp_path / "map.jpg")
    assert done.code == 0, done.err
    with PillowImage.open(tmp_path / "map.jpg") as drawn:
        assert drawn.width == 250


def test_gate_weighted_with_and_without_gradient(
    visattn_command: Command, photo: Path, tmp_path: Path
) -> None:
    words = ("explain", photo, *GATED, "--method", "gate_weighted", "--out", tmp_path / "map.npz")
    assert visattn_command(*words, "--target", "3").code == 0
    assert SaliencyMap.load(tmp_path / "map.npz").target is not None
    assert visattn_command(*words, "-O", "gradient=False").code == 0
    assert SaliencyMap.load(tmp_path / "map.npz").target is None
    refused = visattn_command(*words, "-O", "gradient=False", "--target", "3")
    assert refused.code != 0
    assert "class-agnostic" in refused.err


def test_a_model_without_spatial_gates_is_refused_with_a_reason(
    visattn_command: Command, photo: Path, tmp_path: Path
) -> None:
    words = ("explain", photo, *GATED, "--method", "spatial_gate", "--out", tmp_path / "map.png")
    done = visattn_command(*words)
    assert done.code != 0
    assert "its gates are of kind channel" in done.err
    assert not (tmp_path / "map.png").exists()


def test_gates_are_listed_over_a_folder(visattn_command: Command, photo: Path) -> None:
    words = ("inspect", "test_efficientnet", "--weights", "random", "--device", "cpu")
    done = visattn_command(*words, "--images", photo.parent)
    assert done.code == 0, done.err
    listed = done.out.split("gates, on 1 photographs\n")[1].splitlines()
    assert " channel " in listed[0]
    assert "saturated" in listed[0]
    both = visattn_command(*words, "--images", photo.parent, "--image", photo)
    assert both.code == 2
    assert "not both" in both.err
