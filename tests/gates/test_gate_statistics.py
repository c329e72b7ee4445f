"""What inspect says of gates, over a folder of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gated import SIZE, gated, images
from PIL import Image as PillowImage
from torch import nn

import visattn
from visattn.gate_statistics import BATCH_SIZE, gate_report


def test_rows_are_means_over_images_and_batches() -> None:
    model = visattn.load_model(gated("cbam").double(), image_size=SIZE)
    x = images(BATCH_SIZE + 3).double()
    report = gate_report(model, x)
    gates = visattn.capture(model, x).gates
    assert report.images == len(x)
    assert [row.name for row in report.rows] == [gate.name for gate in gates]
    for row, gate in zip(report.rows, gates, strict=True):
        flat = gate.value.flatten(1)
        assert row.mean == pytest.approx(float(flat.mean()), rel=1e-6)
        assert row.spread == pytest.approx(float(flat.std(dim=1, correction=0).mean()), rel=1e-6)
        spread = flat.std(dim=1, correction=0) / flat.mean(dim=1)
        if gate.kind == "spatial":
            assert row.spatial_spread == pytest.approx(float(spread.mean()), rel=1e-6)
            assert row.constant == pytest.approx(float((spread < 0.01).double().mean()))
        else:
            assert row.spatial_spread is None
            assert row.shape == tuple(gate.value.shape[1:])


def test_dead_and_saturated_channels_are_those_of_all_images() -> None:
    module = gated("se")
    last = module.get_submodule("layer4.0.se.fc2")
    with torch.no_grad():
        last.weight.zero_()  # type: ignore[operator, union-attr]
        last.bias.copy_(torch.tensor([-20.0] * 12 + [20.0] * 6 + [0.0] * 30))  # type: ignore[operator, union-attr]
    row = gate_report(visattn.load_model(module, image_size=SIZE), images()).rows[-1]
    assert row.dead == pytest.approx(12 / 48)
    assert row.saturated == pytest.approx(6 / 48)
    page = str(visattn.inspect_model(visattn.load_model(module, image_size=SIZE)))
    assert "dead 25.0%, saturated 12.5%" in page
    assert "\ngates, on noise" in page


def test_a_constant_layer_is_called_constant() -> None:
    module = gated("cbam")
    nn.init.zeros_(module.get_submodule("layer2.0.se.spatial.conv.conv").weight)  # type: ignore[arg-type]
    page = str(visattn.inspect_model(visattn.load_model(module, image_size=SIZE)))
    (line,) = [each for each in page.splitlines() if "layer2.0.se.spatial" in each]
    assert "spatial" in line
    assert line.split("over positions ")[1].startswith("0.0%, constant, dead 0.0%")
    assert "constant" not in next(e for e in page.splitlines() if "layer1.0.se.spatial" in e)


def test_a_folder_of_photos_is_read(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("b.png", "a.png"):
        pixels = generator.integers(0, 255, (*SIZE, 3), np.uint8)
        PillowImage.fromarray(pixels).save(tmp_path / name)
    model = visattn.load_model(gated("gc"), image_size=SIZE)
    report = visattn.inspect_model(model, images=tmp_path)
    assert report.gates.images == 2
    assert {row.kind for row in report.gates.rows} == {"distribution", "channel"}
    assert "\ngates, on 2 photographs\n" in str(report)
    one = next(row for row in report.gates.rows if row.kind == "distribution")
    assert one.mean == pytest.approx(1, abs=1e-5)
    assert one.dead is None


def test_a_model_without_gates_says_none() -> None:
    page = str(visattn.inspect_model(visattn.load_model("test_vit", weights=None)))
    assert "gates, on noise (photographs: --image, images=)\n  none\n" in page
