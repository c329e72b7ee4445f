"""Gates are observed, not recomputed: names, kinds, values, and a model left as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gated import ATTENTION, SIZE, gated, images
from torch import nn

import visattn
from visattn.gates import gate_modules
from visattn.methods.gate_weighted import GateWeighted
from visattn.methods.spatial_gate import SpatialGate
from visattn.observation import Gate, Keep


def broadcast(gate: Gate) -> torch.Tensor:
    """Return a gate as a factor of (batch, channel, row, col)."""
    value = gate.value
    shapes = {"channel": value[..., None, None], "pointwise": value, "spatial": value[:, None]}
    if gate.kind == "branch":
        return value.flatten(1)[..., None, None]
    return shapes[gate.kind]


@pytest.mark.parametrize("name", ATTENTION)
def test_every_gate_module_gives_its_gates_and_they_multiply(name: str) -> None:
    module = gated(ATTENTION[name])
    keep = [Keep(layer=index) for index in range(40)]
    record = visattn.capture(module, images(), keep=keep)
    declared = [(part.name, kind) for part in gate_modules(module) for kind in part.kinds]
    assert [(gate.name, gate.kind) for gate in record.gates] == declared
    assert record.missed == ()
    for gate in record.gates:
        assert len(gate.value.shape) == len(gate.axes)
        if gate.kind == "distribution":
            torch.testing.assert_close(gate.value.sum(dim=(1, 2)), torch.ones(2))
            continue
        assert gate.inputs is not None
        assert gate.outputs is not None
        assert gate.energy is not None
        scale = gate.outputs.abs().max()
        assert scale > 0
        assert (broadcast(gate) * gate.inputs - gate.outputs).abs().max() <= 1e-6 * scale
        energy = gate.inputs.abs().mean(dim=(2, 3))
        torch.testing.assert_close(gate.energy.flatten(1), energy)


@pytest.mark.parametrize("name", ATTENTION)
def test_outputs_are_unchanged_bit_for_bit_and_hooks_are_gone(name: str) -> None:
    module, x = gated(ATTENTION[name]), images()
    with torch.no_grad():
        before = module(x)
    record = visattn.capture(module, x, gradients_of=0, keep=[Keep()])
    assert torch.equal(record.outputs, before)
    assert hooks(module) == 0
    with torch.no_grad():
        assert torch.equal(module(x), before)


def hooks(module: nn.Module) -> int:
    return sum(len(p._forward_hooks) + len(p._forward_pre_hooks) for p in module.modules())


@pytest.mark.parametrize("place", ["layer1.0.se.fc2", "layer4.0.se", "fc"])
def test_everything_is_restored_when_the_model_raises(place: str) -> None:
    module, x = gated("se"), images()
    module.train()

    def fail(*_: Any) -> None:
        raise RuntimeError("planted")

    handle = dict(module.named_modules())[place].register_forward_hook(fail)
    with pytest.raises(visattn.ModelError, match="planted"):
        visattn.capture(module, x)
    handle.remove()
    assert hooks(module) == 0
    assert all(part.training for part in module.modules())
    assert len(visattn.capture(module, x).gates) == 4


def test_nothing_is_captured_when_nobody_asks() -> None:
    module = gated("se")
    with pytest.raises(visattn.CaptureError, match="No attention operation"):
        visattn.capture(module, images(), gates=False)


def test_the_batch_does_not_matter() -> None:
    module, x = gated("cbam").double(), images(3).double()
    together = visattn.capture(module, x).gates
    for index in range(3):
        alone = visattn.capture(module, x[index : index + 1]).gates
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(one.value[0], all_of_them.value[index])


def test_only_the_gates_that_were_asked_for_are_kept() -> None:
    record = visattn.capture(gated("cbam"), images(), keep=[Keep(("channel",), -2), Keep()])
    kept = [gate.name for gate in record.gates if gate.outputs is not None]
    assert kept == ["layer3.0.se.channel", "layer4.0.se.spatial"]
    assert all((gate.inputs is None) == (gate.outputs is None) for gate in record.gates)


@pytest.mark.parametrize("name", ["ge_extent", "coord", "cbam", "se", "gc"])
def test_gates_take_the_memory_that_is_stated_and_no_more(name: str) -> None:
    """L C P where a gate has a value for each channel and position, and nothing beside it."""
    gates = visattn.capture(gated(ATTENTION[name]), images()).gates
    for gate in gates:
        held = gate.value.untyped_storage()
        assert held.nbytes() == gate.value.numel() * gate.value.element_size()
        assert gate.inputs is None
        assert gate.outputs is None
    pointwise = [gate for gate in gates if gate.kind == "pointwise"]
    assert bool(pointwise) == (name in ("ge_extent", "coord"))
    for gate in pointwise:
        assert gate.energy is not None
        assert gate.value[0].numel() == gate.energy.shape[1] * gate.positions
    for method in (SpatialGate, GateWeighted):
        assert method.memory == "L C P"


def test_the_gradient_is_taken_before_layers_behind_overwrite_the_tensor() -> None:
    """timm adds the residual path and clamps in place."""
    module, x = gated("se").double(), images(1).double()
    record = visattn.capture(module, x, gradients_of=1, keep=[Keep(layer=2)])
    gate = record.gates[2]
    assert gate.outputs is not None
    assert gate.gradient is not None
    se = dict(module.named_modules())["layer3.0.se"]
    step = torch.randn(gate.outputs.shape, generator=torch.Generator().manual_seed(1)).double()
    scores = []
    for sign in (1, -1):
        handle = se.register_forward_hook(lambda _, __, out, s=sign: out + s * 1e-6 * step)
        with torch.no_grad():
            scores.append(module(x)[0, 1])
        handle.remove()
    slope = (scores[0] - scores[1]) / 2e-6
    torch.testing.assert_close((gate.gradient * step).sum(), slope, rtol=1e-5, atol=1e-8)


def test_a_module_that_runs_twice_is_numbered() -> None:
    se = gated("se").layer1[0].se  # type: ignore[union-attr, index]

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.se = nn.Conv2d(3, 16, 3), se

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.se(self.se(self.stem(x))).mean(dim=(2, 3))

    record = visattn.capture(visattn.load_model(Twice(), image_size=SIZE), images())
    assert [gate.name for gate in record.gates] == ["se", "se#2"]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf"])
def test_torchvisions_squeeze_and_excitation_is_seen(name: str) -> None:
    model = visattn.load_model(f"torchvision:{name}", weights=None, image_size=SIZE)
    record = visattn.capture(model, images(1))
    names = [part.name for part in gate_modules(model.module)]
    assert len(names) > 5
    assert [gate.name for gate in record.gates] == names
    assert {gate.kind for gate in record.gates} == {"channel"}
    assert record.missed == ()
