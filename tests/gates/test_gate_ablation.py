"""A gate replaced by its mean: the right one, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gated import ATTENTION, SIZE, gated, images

import visattn
from visattn.gate_statistics import gate_report
from visattn.observation.gate_ablation import ablated


@pytest.mark.parametrize(("name", "axes"), [("se", (1,)), ("eca", (1,)), ("light_cbam", (1,))])
def test_a_channel_gate_is_replaced_by_its_mean_over_channels(name: str, axes: Any) -> None:
    module, x = gated(ATTENTION[name]).double(), images().double()
    gate = [g for g in visattn.capture(module, x).gates if g.kind == "channel"][1]
    part: Any = module.get_submodule(gate.name)
    mean = gate.value.mean(dim=axes)[:, None, None, None]
    handle = part.register_forward_hook(lambda _, given, __: given[0] * mean)
    with torch.no_grad():
        expected = module(x)
    handle.remove()
    torch.testing.assert_close(ablated(module, x, gate), expected)


def test_a_spatial_gate_is_replaced_by_its_mean_over_positions() -> None:
    module, x = gated("cbam").double(), images().double()
    gate = [g for g in visattn.capture(module, x).gates if g.kind == "spatial"][2]
    part: Any = module.get_submodule(gate.name)
    mean = gate.value.mean(dim=(1, 2))[:, None, None, None]
    handle = part.register_forward_hook(lambda _, given, __: given[0] * mean)
    with torch.no_grad():
        expected = module(x)
    handle.remove()
    torch.testing.assert_close(ablated(module, x, gate), expected)


def test_branches_get_equal_shares() -> None:
    module, x = gated("sk"), images()
    gate = visattn.capture(module, x).gates[-1]
    part: Any = module.get_submodule(f"{gate.name}.attn")
    handle = part.register_forward_hook(lambda _, __, out: torch.full_like(out, 0.5))
    with torch.no_grad():
        expected = module(x)
    handle.remove()
    torch.testing.assert_close(ablated(module, x, gate), expected)


def test_a_gate_that_is_its_mean_already_changes_nothing() -> None:
    module: Any = gated("cbam")
    torch.nn.init.zeros_(module.layer2[0].se.spatial.conv.conv.weight)
    model = visattn.load_model(module, image_size=SIZE)
    before = model.run(images())
    rows = {row.name: row for row in gate_report(model, images(), ablate=True).rows}
    assert rows["layer2.0.se.spatial"].change == pytest.approx(0, abs=1e-6)
    change = rows["layer4.0.se.channel"].change
    assert change is not None
    assert change > 0.01
    assert torch.equal(model.run(images()), before)
    assert "output change without it" in str(visattn.inspect_model(model, ablate=True))


def test_without_asking_nothing_is_ablated_and_distributions_never_are() -> None:
    model = visattn.load_model(gated("gc"), image_size=SIZE)
    assert {row.change for row in gate_report(model, images()).rows} == {None}
    for row in gate_report(model, images(), ablate=True).rows:
        assert (row.change is None) == (row.kind == "distribution")
