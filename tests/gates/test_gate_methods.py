"""The three methods over gates: their formulas once more, planted gates, and what is no signal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gated import ATTENTION, SIZE, gated, images
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

import visattn
from visattn.images import Size
from visattn.methods.spatial_gate import SpatialGate
from visattn.models import Model
from visattn.observation import Gate, Keep
from visattn.saliency import SaliencyMap

ALL = [Keep(layer=index) for index in range(40)]


def model_of(name: str) -> Model:
    return visattn.load_model(gated(ATTENTION[name]).double(), image_size=SIZE)


def explained(name: str, method: str, **options: Any) -> list[SaliencyMap]:
    return visattn.explain(model_of(name), images().double(), method=method, **options)


def naive_map(gate: Any) -> torch.Tensor:
    value = gate.value
    if gate.kind == "distribution":
        return value * value[0].numel()
    return value.mean(dim=1) if gate.kind == "pointwise" else value


def upsampled(maps: torch.Tensor, grid: torch.Size) -> torch.Tensor:
    return functional.interpolate(maps[:, None], size=grid, mode="bilinear")[:, 0]


@pytest.mark.parametrize("fusion", ["mean", "product"])
@pytest.mark.parametrize("name", ["cbam", "light_cbam", "gc", "ge_extent", "coord", "strip"])
def test_spatial_gates_are_fused_as_stated(name: str, fusion: str) -> None:
    gates = visattn.capture(model_of(name), images().double()).gates
    maps = [naive_map(g) for g in gates if g.kind in ("spatial", "pointwise", "distribution")]
    layers = torch.stack([upsampled(each, maps[0].shape[1:]) for each in maps])
    expected = layers.mean(dim=0) if fusion == "mean" else layers.prod(dim=0)
    found = explained(name, "spatial_gate", fusion=fusion)
    for one, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.grid, right, rtol=1e-5, atol=1e-30)
        assert fusion in one.provenance["fusion"]
        assert len(one.provenance["layers"]) == 4
        assert one.target is None
        assert not one.signed
    (last,) = {f.provenance["layers"][0] for f in explained(name, "spatial_gate", layers=-1)}
    assert last.startswith("layer4")


def test_a_distribution_of_few_positions_is_not_louder_than_one_of_many() -> None:
    for found in explained("gc", "spatial_gate"):
        assert found.grid.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["se", "eca", "cbam", "sk", "splat"])
def test_channels_are_ranked_by_the_energy_that_passes(name: str) -> None:
    gates = visattn.capture(model_of(name), images().double(), keep=ALL).gates
    gate = [g for g in gates if g.kind in ("channel", "branch")][-1]
    assert gate.inputs is not None
    for index, found in enumerate(explained(name, "channel_gate", top=3)):
        x, g = gate.inputs[index].numpy(), gate.value[index].numpy()
        passed = g.reshape(-1, 1, 1) * x
        energy = (g.reshape(-1) * np.abs(x).mean(axis=(1, 2))).reshape(-1, g.shape[-1]).sum(axis=0)
        summed = passed.reshape(-1, g.shape[-1], *x.shape[1:]).sum(axis=0)
        order = np.argsort(-energy, kind="stable")[:3]
        assert found.channels is not None
        np.testing.assert_array_equal(found.channels.order, order)
        np.testing.assert_allclose(found.channels.gates, g, rtol=1e-6)
        np.testing.assert_allclose(found.channels.passing, energy, rtol=1e-5)
        np.testing.assert_allclose(found.channels.maps, summed[order], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(found.grid, summed[order].mean(axis=0), rtol=1e-4, atol=1e-6)
        assert found.channels.layer == gate.name == found.provenance["layer"]


@pytest.mark.parametrize("name", ["se", "cbam", "coord", "sk", "gc"])
def test_gate_weighted_is_hirescam_on_the_gated_map(name: str) -> None:
    model, x = model_of(name), images().double()
    gate = visattn.capture(model, x, gradients_of=2, keep=[Keep()]).gates[-1]
    assert gate.outputs is not None
    assert gate.gradient is not None
    terms = gate.outputs * gate.gradient
    expected = terms.sum(dim=1).clamp(min=0)
    for index, found in enumerate(explained(name, "gate_weighted", target=2)):
        np.testing.assert_allclose(found.grid, expected[index], rtol=1e-5, atol=1e-9)
        k = terms[index].sum(dim=0 if gate.kind == "spatial" else (1, 2)).flatten()
        g = gate.value[index]
        g = g.mean(dim=(1, 2)) if gate.kind == "pointwise" else g.flatten()
        rho = spearmanr(g.numpy(), k.numpy()).statistic
        assert found.provenance["rank_correlation"] == pytest.approx(rho, abs=1e-9)
        assert found.target is not None


def test_the_gradient_at_the_last_gate_sums_to_the_score_minus_the_bias() -> None:
    """Behind layer 4 only a residual sum, a ReLU, the average and one linear layer follow."""
    module: Any = gated("se").double()
    module.layer4[
        0
    ].downsample = nn.Sequential(  # a residual path of zero, so that the ReLU decides
        nn.AvgPool2d(2), nn.Conv2d(32, 48, 1, bias=False)
    ).double()
    nn.init.zeros_(module.layer4[0].downsample[1].weight)
    record = visattn.capture(module, images(1).double(), gradients_of=1, keep=[Keep()])
    gate = record.gates[-1]
    assert gate.outputs is not None
    assert gate.gradient is not None
    total = (gate.outputs * gate.gradient).sum()
    torch.testing.assert_close(total, record.outputs[0, 1] - module.fc.bias[1])


def test_without_gradient_it_is_class_agnostic() -> None:
    gate = visattn.capture(model_of("cbam"), images().double(), keep=[Keep()]).gates[-1]
    assert gate.outputs is not None
    found = explained("cbam", "gate_weighted", gradient=False)
    for index, one in enumerate(found):
        right = gate.outputs[index].sum(dim=0).clamp(min=0)
        np.testing.assert_allclose(one.grid, right, rtol=1e-5, atol=1e-7)
        assert one.target is None
        assert "rank_correlation" not in one.provenance
    with pytest.raises(visattn.UnsupportedMethodError, match="class-agnostic"):
        explained("cbam", "gate_weighted", gradient=False, target=1)


@pytest.mark.parametrize(("row", "col"), [(0, 5), (3, 0), (2, 4)])
def test_a_planted_gate_lights_the_planted_place_of_the_photo(row: int, col: int) -> None:
    """Stride 4 at the first stage: a bright 16 x 16 square on black, on an input of 64 x 96."""
    photo = np.zeros((*SIZE, 3), np.uint8)
    photo[row * 16 : row * 16 + 16, col * 16 : col * 16 + 16] = 255
    module: Any = gated("cbam")
    first = module.layer1[0]
    with torch.no_grad():
        spatial = first.se.spatial.conv
        spatial.conv.weight.zero_()
        spatial.conv.weight[0, 1, 3, 3] = 1.0
    model = visattn.load_model(module, image_size=SIZE)
    (found,) = visattn.explain(model, photo, method="spatial_gate", layers=0)
    change = found.on_image() - black(model)
    inside = np.nanmean(np.abs(change)[row * 16 : row * 16 + 16, col * 16 : col * 16 + 16])
    far = np.abs(change).copy()
    top, left = max(0, row * 16 - 24), max(0, col * 16 - 24)
    far[top : row * 16 + 40, left : col * 16 + 40] = np.nan
    assert inside > 5 * np.nanmean(far)
    peak = np.unravel_index(np.nanargmax(np.abs(change)), change.shape)
    assert top <= peak[0] < row * 16 + 40
    assert left <= peak[1] < col * 16 + 40


def black(model: Model) -> np.ndarray[Any, Any]:
    photo = np.zeros((*SIZE, 3), np.uint8)
    (found,) = visattn.explain(model, photo, method="spatial_gate", layers=0)
    return found.on_image()


def constant(module: nn.Module, stages: tuple[int, ...]) -> nn.Module:
    for stage in stages:
        spatial = module.get_submodule(f"layer{stage}.0.se.spatial.conv.conv")
        nn.init.constant_(spatial.weight, 1e-7)
    return module


def test_a_constant_gate_is_named_and_where_all_are_there_is_no_signal() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    some = visattn.load_model(constant(gated("cbam"), (1, 3)), image_size=SIZE)
    (found,) = visattn.explain(some, photo, method="spatial_gate")
    assert found.no_signal is None
    (warning,) = [each for each in found.warnings if "constant" in each]
    assert "2 of 4" in warning
    assert "layer1.0.se.spatial, layer3.0.se.spatial" in warning

    every = visattn.load_model(constant(gated("cbam"), (1, 2, 3, 4)), image_size=SIZE)
    (found,) = visattn.explain(every, photo, method="spatial_gate")
    assert found.no_signal is not None
    assert "all 4 spatial gates are constant over this image" in found.no_signal
    assert f"no signal: {found.no_signal}" in found.warnings
    assert (found.normalized() == 0).all()
    middle = (slice(12, 24), slice(24, 72))  # above the banner, inside what the model saw
    np.testing.assert_array_equal(np.asarray(found.overlay())[middle], photo[middle])


@pytest.mark.parametrize(("strength", "silent"), [(0.012, True), (0.3, False)])
def test_a_fused_map_in_which_constant_gates_drown_the_others_is_no_signal(
    strength: float, silent: bool
) -> None:
    """Ten gates of which one varies: its deviation is a tenth in the mean of all."""
    stripes = torch.tensor([1.0, -1.0]).repeat(4, 4)
    gates = [
        Gate(f"gate{index}", index, "cbam", "spatial", torch.full((2, 4, 8), 0.5), Size(4, 8))
        for index in range(10)
    ]
    # The first image has nothing but constant gates, so that a batch is judged image by image.
    varying = torch.stack([torch.full((4, 8), 0.5), 0.5 * (1 + strength * stripes)])
    gates[3] = replace(gates[3], value=varying)
    record = replace(visattn.capture(gated("cbam"), images()), gates=tuple(gates))
    found = SpatialGate()(record, ())
    reason = found.silent[0]
    assert reason is not None
    assert "all 10 spatial gates are constant" in reason
    drowned = found.silent[1]
    assert (drowned is not None) == silent
    assert found.measured[1]["fused_variation"] == pytest.approx(strength / 10, rel=1e-4)
    if drowned is None:
        return
    assert "the fused map is constant over this image" in drowned
    assert "0.12% of the mean, though 1 of 10 spatial gates vary by up to 1.20%" in drowned
    assert SpatialGate(layers=3)(record, ()).silent[1] is None


def test_silence_and_channels_survive_a_file(tmp_path: Any) -> None:
    every = visattn.load_model(constant(gated("cbam"), (1, 2, 3, 4)), image_size=SIZE)
    for method in ("spatial_gate", "channel_gate"):
        (found,) = visattn.explain(every, images(1), method=method)
        again = SaliencyMap.load(found.save(tmp_path / f"{method}.npz"))
        assert again.no_signal == found.no_signal
        assert (again.channels is None) == (found.channels is None)
        if found.channels is not None and again.channels is not None:
            assert again.channels.layer == found.channels.layer
            for name, values in found.channels.arrays().items():
                np.testing.assert_array_equal(values, again.channels.arrays()[name])


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("spatial_gate", {"fusion": "max"}, "fusion='max'"),
        ("spatial_gate", {"layers": 9}, "4 layers"),
        ("channel_gate", {"top": 0}, "top=0"),
        ("channel_gate", {"layer": "layer9"}, r"layer='layer9'.*layer1\.0\.se\.channel"),
        ("channel_gate", {"layer": 1.5}, "layer=1.5"),
        ("gate_weighted", {"layer": 8}, "8 such gates"),
        ("gate_weighted", {"gradient": 1}, "gradient=1"),
    ],
)
def test_impossible_options_are_refused(method: str, options: Any, told: str) -> None:
    with pytest.raises(visattn.UnsupportedMethodError, match=told):
        explained("cbam", method, **options)


def test_a_model_without_such_gates_is_refused_with_what_it_has() -> None:
    with pytest.raises(visattn.UnsupportedMethodError, match="its gates are of kind channel;"):
        explained("se", "spatial_gate")
    with pytest.raises(visattn.UnsupportedMethodError, match="its gates are of kind distribution;"):
        explained("gc_add", "channel_gate")


def test_a_gate_that_the_score_does_not_read_is_refused() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net: Any = gated("se")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                self.net(x)
            return x.mean(dim=(2, 3))

    model = visattn.load_model(Cut(), image_size=SIZE)
    with pytest.raises(visattn.UnsupportedMethodError, match=r"net\.layer4\.0\.se has no gradient"):
        visattn.explain(model, images(1), method="gate_weighted", target=0)


def test_an_image_whose_score_does_not_read_the_gate_is_silent_in_a_batch_as_alone() -> None:
    """The gated network counts for light images only: the second of two is dark."""

    class Shut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net: Any = gated("se").double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            light = (x.mean(dim=(1, 2, 3)) > 0).to(x.dtype)[:, None]
            return self.net(x) * light + x.mean(dim=(2, 3)).sum(dim=1, keepdim=True)

    model = visattn.load_model(Shut().eval(), image_size=SIZE)
    both = torch.stack([torch.full((3, *SIZE), 0.5), torch.full((3, *SIZE), -0.5)]).double()
    both = both + 0.1 * images().double()
    options: Any = {"method": "gate_weighted", "target": 1}
    together = visattn.explain(model, both, **options)
    alone = [visattn.explain(model, each[None], **options)[0] for each in both]
    for one, other in zip(together, alone, strict=True):
        assert one.no_signal == other.no_signal
        np.testing.assert_allclose(one.grid, other.grid, rtol=1e-5, atol=1e-12)
        mine, its = (each.provenance["rank_correlation"] for each in (one, other))
        assert mine == its or mine == pytest.approx(its)
    assert together[0].no_signal is None
    assert together[0].grid.max() > 0
    reason = together[1].no_signal
    assert reason is not None
    assert "feature map behind net.layer4.0.se: its gradient is exactly zero" in reason
    assert together[1].provenance["rank_correlation"] is None
    assert not together[1].grid.any()


def test_a_gallery_asks_no_target_of_a_method_without_gradient() -> None:
    from visattn.gallery import engine
    from visattn.gallery.config import MethodConfig

    for gradient, target in ((True, 3), (False, None)):
        settings = MethodConfig(name="gate_weighted", options={"gradient": gradient})
        assert engine._request(settings, 3, 0).target == target
