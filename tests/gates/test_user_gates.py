"""Gates that a user writes: one declaration, and they are captured and drawn."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gated import SIZE, images, randomised
from torch import nn

import visattn
from visattn.gate_statistics import gate_report
from visattn.gates import GATES, GateFamily, lookalikes, register_gate
from visattn.observation import Keep
from visattn.observation.gate_ablation import ablated
from visattn.saliency import SaliencyMap


class BottleneckAttention(nn.Module):
    """BAM (Park et al., BMVC 2018): ``F + F * M``, M of a channel and a spatial branch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.channel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(),
            nn.Conv2d(hidden, channels, 1),
        )  # fmt: skip
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=2, dilation=2), nn.ReLU(),
            nn.Conv2d(hidden, 1, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.sigmoid(self.channel(x).expand_as(x) + self.spatial(x).expand_as(x))
        return x + x * weights


class ResidualAttention(nn.Module):
    """Residual attention (Wang et al., CVPR 2017): ``(1 + M) * T``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = nn.Conv2d(channels, channels, 3, padding=1)
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(channels, channels, 3, padding=1))
        self.up = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grown = nn.functional.interpolate(self.down(x), size=x.shape[-2:], mode="bilinear")
        mask = torch.sigmoid(self.up(grown))
        return (1 + mask) * self.trunk(x)


class BothInOne(nn.Module):
    """CBAM in one forward: a channel gate, then a spatial one, in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc, self.conv = nn.Conv2d(channels, channels, 1), nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * self.fc(x.mean((2, 3), keepdim=True)).sigmoid()
        pooled = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], dim=1)
        y *= self.conv(pooled).sigmoid()
        return y


class OverwrittenGate(nn.Module):
    """A gate for each channel and position whose memory the product takes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.conv(x)).mul_(x)


class GateBehindOut(OverwrittenGate):
    """The same, written with ``out``, and read from the gate's own name."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.conv(x))
        torch.mul(x, gate, out=gate)
        return gate


class GateClearedLater(OverwrittenGate):
    """The product is a new tensor, but the gate's memory is used for something else behind it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.conv(x))
        product = x * gate
        gate.fill_(-7.0)
        return product


class OneChannel(nn.Module):
    """A spatial gate on a map of one channel, overwritten by the product."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.join, self.conv = nn.Conv2d(channels, 1, 1), nn.Conv2d(1, 1, 3, padding=1)
        self.gate = OneChannelGate(self.conv)
        self.split = nn.Conv2d(1, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.split(self.gate(self.join(x)))


class OneChannelGate(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(self.conv(x))
        gate *= x
        return gate


class SplitGate(nn.Module):
    """``x * a_h * a_w``, where the second factor comes of a map that another gate has weighed.

    Both factors are 1 + a mask where ``plus`` is 1.
    """

    plus = 0.0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rows, self.columns = (nn.Conv2d(channels, channels, 1) for _ in range(2))
        self.inner = BothInOne(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * (self.plus + self.rows(x.mean(3, keepdim=True)).sigmoid())
        z = self.inner(x)
        return y * (self.plus + self.columns(z.mean(2, keepdim=True)).sigmoid())


class PlusOne(SplitGate):
    plus = 1.0


class TanhGate(nn.Module):
    """A channel gate between -1 and 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        with torch.no_grad():
            self.fc.weight.mul_(0.1)
            self.fc.bias.copy_(torch.tensor([-3.0, -0.7, -0.1, 0.0, 0.1, 0.3, 0.6, -1.5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.tanh(self.fc(x.mean((2, 3), keepdim=True)))


class PlusTanh(TanhGate):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (1 + torch.tanh(self.fc(x.mean((2, 3), keepdim=True)))) * x


class Tanh(GateFamily):
    family = "tanh"
    classes = (TanhGate,)
    bounds = (-1.0, 1.0)

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        return type(module) is TanhGate


class TanhPlus(GateFamily):
    family = "tanh_plus"
    classes = (PlusTanh,)
    bounds = (-1.0, 1.0)
    offset = 1.0


class Split(GateFamily):
    family = "split"
    classes = (SplitGate,)
    kinds = ("pointwise",)

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        return type(module) is SplitGate


class SplitPlus(GateFamily):
    family = "split_plus"
    classes = (PlusOne,)
    kinds = ("pointwise",)
    offset = 1.0


class Overwritten(GateFamily):
    family = "overwritten"
    classes = (OverwrittenGate,)
    kinds = ("pointwise",)


class One(GateFamily):
    family = "one"
    classes = (OneChannelGate,)
    kinds = ("spatial",)


class Bam(GateFamily):
    family = "bam"
    classes = (BottleneckAttention,)
    kinds = ("pointwise",)
    paper = "Park et al., BMVC 2018"


class Residual(GateFamily):
    family = "residual_attention"
    classes = (ResidualAttention,)
    kinds = ("pointwise",)
    offset = 1.0
    paper = "Wang et al., CVPR 2017"


class Both(GateFamily):
    family = "both"
    classes = (BothInOne,)
    kinds = ("channel", "spatial")


class Net(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, 4, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.attention = kind(8)  # type: ignore[call-arg]
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.avgpool(self.attention(self.stem(x))).flatten(1))


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    families = (Bam, Residual, Both, Overwritten, One, Split, SplitPlus, Tanh, TanhPlus)
    for each in families:
        register_gate(each.family)(each)
    yield
    for each in families:
        GATES.withdraw(each.family)


def net(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return randomised(Net(kind)).double()


def seen_inside(module: nn.Module, x: torch.Tensor, part: str) -> torch.Tensor:
    """Return the output of a part."""
    found: list[torch.Tensor] = []
    handle = module.get_submodule(part).register_forward_hook(lambda *a: found.append(a[2]))
    with torch.no_grad():
        module(x)
    handle.remove()
    return found[0]


def test_bam_is_captured_and_drawn() -> None:
    module, x = net(BottleneckAttention), images().double()
    record = visattn.capture(visattn.load_model(module, image_size=SIZE), x)
    (gate,) = record.gates
    parts = [seen_inside(module, x, f"attention.{name}") for name in ("channel", "spatial")]
    mask = torch.sigmoid(parts[0] + parts[1])
    torch.testing.assert_close(gate.value, mask)
    found = visattn.explain(visattn.load_model(module, image_size=SIZE), x, method="spatial_gate")
    np.testing.assert_allclose(found[1].grid, mask.mean(dim=1)[1], rtol=1e-5)


def test_the_mask_of_residual_attention_is_drawn_and_not_one_plus_it() -> None:
    module, x = net(ResidualAttention), images().double()
    (gate,) = visattn.capture(visattn.load_model(module, image_size=SIZE), x).gates
    torch.testing.assert_close(gate.value, seen_inside(module, x, "attention.up").sigmoid())
    assert gate.kind == "pointwise"


def test_two_gates_in_one_forward_even_in_place() -> None:
    module, x = net(BothInOne), images().double()
    with torch.no_grad():
        before = module(x)
    record = visattn.capture(visattn.load_model(module, image_size=SIZE), x)
    assert torch.equal(record.outputs, before)
    assert [(g.name, g.kind) for g in record.gates] == [
        ("attention", "channel"), ("attention", "spatial"),
    ]  # fmt: skip
    torch.testing.assert_close(
        record.gates[1].value, seen_inside(module, x, "attention.conv").sigmoid()[:, 0]
    )
    energy = seen_inside(module, x, "stem").abs().mean(dim=(2, 3))
    assert record.gates[0].energy is not None
    torch.testing.assert_close(record.gates[0].energy, energy)
    torch.testing.assert_close(record.gates[1].energy, energy * record.gates[0].value)


OVERWRITING = (OverwrittenGate, GateBehindOut, GateClearedLater, OneChannel)


@pytest.mark.parametrize("kind", OVERWRITING)
def test_a_gate_is_what_it_was_before_its_memory_was_overwritten(kind: type[nn.Module]) -> None:
    module, x = net(kind), images().double()
    expected = seen_inside(module, x, "attention.conv").sigmoid()
    with torch.no_grad():
        before = module(x)
    record = visattn.capture(visattn.load_model(module, image_size=SIZE), x)
    (gate,) = record.gates
    assert torch.equal(record.outputs, before)
    assert torch.equal(gate.value, expected[:, 0] if gate.kind == "spatial" else expected)


@pytest.mark.parametrize("kind", OVERWRITING)
def test_a_gate_whose_memory_is_overwritten_is_ablated_like_any_other(
    kind: type[nn.Module],
) -> None:
    module: Any = net(kind)
    x = images().double()
    (gate,) = visattn.capture(visattn.load_model(module, image_size=SIZE), x).gates
    found = ablated(module, x, gate)

    def meant(part: Any, given: Any, _: Any) -> torch.Tensor:
        mask: torch.Tensor = part.conv(given[0]).sigmoid()
        return given[0] * mask.mean(dim=(2, 3), keepdim=True)

    handle = module.get_submodule(gate.name).register_forward_hook(meant)
    with torch.no_grad():
        expected = module(x)
    handle.remove()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("keep", [Keep(), Keep(("pointwise",)), Keep(layer=0), Keep(layer=-3)])
@pytest.mark.parametrize("kind", [SplitGate, PlusOne])
def test_the_second_factor_belongs_to_its_gate_whatever_ran_in_between(
    kind: type[nn.Module], keep: Keep
) -> None:
    module, x = net(kind), images().double()
    record = visattn.capture(visattn.load_model(module, image_size=SIZE), x, keep=[keep])
    assert [(gate.name, gate.kind, gate.index) for gate in record.gates] == [
        ("attention", "pointwise", 0), ("attention.inner", "channel", 1),
        ("attention.inner", "spatial", 2),
    ]  # fmt: skip
    plus: Any = module.attention.plus  # type: ignore[union-attr]
    parts = [seen_inside(module, x, f"attention.{name}") for name in ("rows", "columns")]
    product = (plus + parts[0].sigmoid()) * (plus + parts[1].sigmoid())
    torch.testing.assert_close(record.gates[0].value, product - plus)
    torch.testing.assert_close(record.gates[0].multiplier, product)
    (kept,) = [gate for gate in record.gates if gate.outputs is not None]
    part = "attention" if kept.index == 0 else "attention.inner"
    assert kept.outputs is not None
    torch.testing.assert_close(kept.outputs, seen_inside(module, x, part))
    assert kept.index == (2 if keep == Keep() else 0)


@pytest.mark.parametrize(("kind", "offset"), [(TanhGate, 0.0), (PlusTanh, 1.0)])
def test_channels_are_ranked_by_the_magnitude_of_what_passes(
    kind: type[nn.Module], offset: float, tmp_path: Path
) -> None:
    """A gate of -0.9 passes more than one of 0.1, and with 1 + M one of -0.9 passes little."""
    module, x = net(kind), images().double()
    fc, stem = (seen_inside(module, x, name) for name in ("attention.fc", "stem"))
    mask = fc.tanh()[..., 0, 0]
    behind = seen_inside(module, x, "attention").abs().mean(dim=(2, 3))
    model = visattn.load_model(module, image_size=SIZE)
    for index, found in enumerate(visattn.explain(model, x, method="channel_gate", top=3)):
        again = SaliencyMap.load(found.save(tmp_path / f"{index}.npz")).channels
        assert found.channels is not None
        assert again is not None
        order = behind[index].argsort(descending=True)[:3]
        share = behind[index][order] / behind[index].sum()
        for ranking in (found.channels, again):
            assert ranking.order.tolist() == order.tolist()
            np.testing.assert_allclose(ranking.gates, mask[index], rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(ranking.passing, behind[index], rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(ranking.share, share, rtol=1e-5)
            assert ranking.offset == offset
        total = pytest.approx(float(share.sum()), rel=1e-5)
        assert found.provenance["passing_share"] == total
        energy = stem[index].abs().mean(dim=(1, 2))
        np.testing.assert_allclose(found.channels.energies, energy, rtol=1e-5, atol=1e-7)


def test_only_gates_between_0_and_1_are_dead_or_saturated() -> None:
    for kind, judged in ((TanhGate, False), (BothInOne, True)):
        model = visattn.load_model(net(kind), image_size=SIZE)
        for row in gate_report(model, images().double()).rows:
            assert (row.dead is not None) == (row.saturated is not None) == judged


def test_a_fault_of_the_observer_is_not_called_one_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("visattn.observation.gate_observer.energy", fail)
    model = visattn.load_model(net(BothInOne), image_size=SIZE)
    with pytest.raises(
        visattn.CaptureError, match=r"attention \(BothInOne\).*RuntimeError: planted.*gates=False"
    ):
        visattn.capture(model, images().double())
    with pytest.raises(visattn.CaptureError, match="No attention operation"):
        visattn.capture(model, images().double(), gates=False)


def test_a_gate_that_is_not_seen_is_missed_by_name() -> None:
    module = net(BottleneckAttention)

    def forward(x: torch.Tensor) -> torch.Tensor:
        return x

    module.attention.forward = forward  # type: ignore[method-assign, assignment]
    model = visattn.load_model(module, image_size=SIZE)
    with pytest.raises(visattn.CaptureError, match=r"attention \(BottleneckAttention\): it ran"):
        visattn.explain(model, images().double(), method="spatial_gate")
    report = visattn.inspect_model(model)
    assert "missed: attention (BottleneckAttention): it ran, but no pointwise gate" in str(report)


def test_a_class_of_the_same_name_is_named_and_nothing_is_claimed_of_it() -> None:
    module = net(BothInOne)
    module.attention.__class__ = type("BothInOne", (nn.Module,), {"forward": BothInOne.forward})
    assert list(lookalikes(module)) == ["attention"]
    model = visattn.load_model(module, image_size=SIZE)
    with pytest.raises(visattn.UnsupportedMethodError, match="no gates at all"):
        visattn.explain(model, images().double(), method="spatial_gate")
    assert "not registered: attention" in str(visattn.inspect_model(model))


def test_a_scripted_copy_is_found_by_the_name_of_the_original() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls scripting old
        scripted = torch.jit.script(BothInOne(8))
    assert list(lookalikes(nn.ModuleDict({"attention": scripted}))) == ["attention"]


def test_two_families_that_claim_one_class_are_an_error() -> None:
    class Again(Bam):
        family = "again"

    register_gate("again")(Again)
    try:
        with pytest.raises(visattn.ModelError, match="claimed by gate families: again, bam"):
            visattn.capture(net(BottleneckAttention), images().double())
    finally:
        GATES.withdraw("again")


def test_a_map_without_the_gate_of_a_module_says_so() -> None:
    module: Any = nn.Sequential()
    module.stem = net(BothInOne).stem
    for name in ("one", "two"):
        module.add_module(name, net(BothInOne).attention)
    module.two.forward = lambda x: x
    module.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    module.add_module("flat", nn.Flatten())
    model = visattn.load_model(module.double().eval(), image_size=SIZE)
    (found,) = visattn.explain(model, images(1).double(), method="spatial_gate")
    assert found.provenance["layers"] == ["one"]
    assert any("two (BothInOne)" in each and "without it" in each for each in found.warnings)
