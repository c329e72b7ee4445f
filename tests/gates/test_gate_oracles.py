"""Each registered family gives the gate of its formula, on an input that is not square."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gates_oracle import CASES, CHANNELS, HIGH, WIDE
from torch import nn

from visattn.gates import GATES
from visattn.observation import Gate, Keep
from visattn.observation.gate_observer import GateObserver


def module_of(name: str) -> nn.Module:
    torch.manual_seed(3)
    module = CASES[name][1]().double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype)
                value.copy_(drawn.abs() + 0.5 if key.endswith("running_var") else 0.7 * drawn)
    return module


def inputs(name: str, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(11)
    shape = (batch, HIGH, WIDE, CHANNELS) if name == "se_last" else (batch, CHANNELS, HIGH, WIDE)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def observed(module: nn.Module, x: torch.Tensor) -> list[Gate]:
    """Observe the module inside another, as the gate of a network."""
    whole = nn.ModuleDict({"gate": module})
    with torch.no_grad(), GateObserver(whole, [Keep(layer=0), Keep()]) as observer:
        whole["gate"](x)
    assert observer.missed == []
    return observer.gates


def test_every_family_is_here() -> None:
    assert {family for family, _, _ in CASES.values()} == set(GATES.names())


@pytest.mark.parametrize("name", CASES)
def test_the_observed_gate_is_that_of_the_formula(name: str) -> None:
    family, _, oracle = CASES[name]
    module, x = module_of(name), inputs(name)
    expected, found = oracle(module, x.numpy()), observed(module, x)
    assert [gate.kind for gate in found] == [kind for kind, _ in expected]
    for gate, (_, value) in zip(found, expected, strict=True):
        assert gate.name == "gate"
        assert gate.family == family
        assert np.ptp(value) > 1e-4
        np.testing.assert_allclose(gate.value.numpy(), value, rtol=1e-9, atol=1e-12)
        assert gate.grid == (HIGH, WIDE)


@pytest.mark.parametrize("name", CASES)
def test_the_gate_times_the_map_is_the_gated_map(name: str) -> None:
    for gate in observed(module_of(name), inputs(name)):
        if gate.kind == "distribution":
            sums = gate.value.sum(dim=(1, 2))
            torch.testing.assert_close(sums, torch.ones_like(sums))
            continue
        assert gate.inputs is not None
        assert gate.outputs is not None
        factor: Any = {
            "channel": lambda g: g.value[..., None, None],
            "branch": lambda g: g.value.flatten(1)[..., None, None],
            "spatial": lambda g: g.value[:, None],
            "pointwise": lambda g: g.value,
        }[gate.kind](gate)
        torch.testing.assert_close(factor * gate.inputs, gate.outputs)
        if gate.kind == "branch":
            total = gate.value.sum(dim=1)
            torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("name", CASES)
def test_an_image_alone_has_the_same_gate(name: str) -> None:
    module, x = module_of(name), inputs(name, 3)
    together = observed(module, x)
    for index in range(3):
        for one, every in zip(observed(module, x[index : index + 1]), together, strict=True):
            torch.testing.assert_close(one.value[0], every.value[index])
