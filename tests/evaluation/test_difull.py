"""DiFull: what a method must not say of a network that provably sees one tile alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

import visattn
from visattn.adapters import Site
from visattn.adapters.convnet import ConvNetAdapter
from visattn.errors import UnsupportedMethodError
from visattn.evaluation.bench import Bench, explained
from visattn.evaluation.case import Case
from visattn.evaluation.difull import Disconnected, cut, disconnected, joined
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics import METRICS, Verdict
from visattn.evaluation.mosaic import grid_pointing
from visattn.evaluation.sample import Excluded, Sample
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.targets import SimilarityTarget, resolve

SIDE, TILE = 2, 32
WHOLE = Size(SIDE * TILE, SIDE * TILE)
CHANNELS = (8, 8, 16, 16)


def residual(**more: Any) -> visattn.Model:
    """Return a small residual network with squeeze-and-excitation gates, which see everything."""
    torch.manual_seed(0)
    arguments = {"num_classes": 5, "block_args": {"attn_layer": "se"}, **more}
    module = ResNet(BasicBlock, (1, 1, 1, 1), channels=CHANNELS, output_stride=8, **arguments)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return visattn.load_model(module, image_size=SIDE * TILE)


@pytest.fixture(scope="module")
def model() -> visattn.Model:
    return residual()


def mosaic(seed: int = 0, size: Size = WHOLE) -> torch.Tensor:
    return torch.randn(3, *size, generator=torch.Generator().manual_seed(seed))


def case_of(model: visattn.Model, trial: Trial, tile: int, target: Any = 1, seed: int = 0) -> Case:
    prepared = model.prepare_tensor(mosaic(seed))
    (found,) = explained(model, [prepared], trial, [target])
    assert not isinstance(found, Exception), found
    output = model.run(prepared.tensor[None])
    (resolved,) = resolve([target], model, output)
    sample = Sample(f"{seed} {tile}", prepared, target, tile=(tile, SIDE))
    return Case(sample, trial, found, output, resolved)


def verdicts(model: visattn.Model, method: str, tiles: Sequence[int], **more: Any) -> list[Verdict]:
    trial = Trial.read(method, model)
    cases = [case_of(model, trial, tile, **more) for tile in tiles]
    return METRICS.get("difull")().measure(Bench(model), cases)


def values(found: Sequence[Verdict]) -> list[float]:
    assert all(isinstance(each, Measured) for each in found), found
    return [each.value for each in found if isinstance(each, Measured)]


def test_tiles_are_cut_and_joined_row_by_row() -> None:
    whole = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    tiles = cut(whole, 2)
    assert tiles.shape == (8, 3, 2, 3)
    assert torch.equal(tiles[1], whole[0, :, :2, 3:])
    assert torch.equal(tiles[6], whole[1, :, 2:, :3])
    assert torch.equal(joined(tiles, 2), whole)
    with pytest.raises(UnsupportedMethodError, match="4 x 5 cells are not 2 x 2"):
        cut(whole[..., :5], 2)


def test_each_head_says_what_the_network_says_of_its_tile_alone(model: visattn.Model) -> None:
    inputs = torch.stack([mosaic(0), mosaic(1)])
    for tile in range(SIDE**2):
        row, col = divmod(tile, SIDE)
        alone = inputs[:, :, row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        apart = disconnected(model, tile, SIDE)
        assert torch.allclose(apart.run(inputs), model.run(alone), atol=1e-5)


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "saliency:cell=1", "hirescam"])
def test_what_the_score_cannot_depend_on_has_no_gradient(model: visattn.Model, method: str) -> None:
    assert values(verdicts(model, method, range(4))) == [1.0] * 4


def test_a_method_that_explains_the_connected_network_fails(model: visattn.Model) -> None:
    trial = Trial.read("saliency", model)
    connected = [case_of(model, trial, tile).found for tile in range(4)]
    shares = [grid_pointing(each, tile, SIDE) for tile, each in enumerate(connected)]
    assert max(shares) < 0.6


def test_weights_that_are_averaged_over_the_map_are_spent_everywhere(model: visattn.Model) -> None:
    found = values(verdicts(model, "gradcam", range(4)))
    assert all(0 < value < 0.9 for value in found)


def test_controls_have_what_chance_gives_them(model: visattn.Model) -> None:
    assert values(verdicts(model, "center", range(4))) == pytest.approx([0.25] * 4)
    found = verdicts(model, "random", range(4))
    assert np.mean(values(found)) == pytest.approx(0.25)
    assert [each.chance for each in found if isinstance(each, Measured)] == [0.25] * 4


def test_mixed_tiles_are_their_own_and_each_costs_one_map(model: visattn.Model) -> None:
    trial, tiles = Trial.read("gradcam", model), (3, 0, 3, 1)
    cases = [case_of(model, trial, tile, seed=seed) for seed, tile in enumerate(tiles)]
    metric, bench = METRICS.get("difull")(), Bench(model)
    together = metric.measure(bench, cases)
    assert (bench.explanations, bench.passes) == (len(cases), 0)
    assert metric.cost().explanations == 1
    alone = [metric.measure(Bench(model), [case])[0] for case in cases]
    assert values(together) == pytest.approx(values(alone), rel=1e-4)


def test_the_network_is_left_as_it_was(model: visattn.Model) -> None:
    before = model.run(mosaic()[None])
    apart = disconnected(model, 0, SIDE)
    apart.run(mosaic()[None])
    with pytest.raises(UnsupportedMethodError, match="equal tiles"):
        apart.run(mosaic(size=Size(64, 63))[None])
    assert not any(
        part._forward_hooks or part._forward_pre_hooks for part in model.module.modules()
    )
    assert torch.equal(model.run(mosaic()[None]), before)


class Tailed(nn.Module):
    """A network whose last map is the output of a named stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.stage(x).relu().mean(dim=(2, 3)))


def test_the_map_may_be_the_output_of_a_stage() -> None:
    torch.manual_seed(0)
    network = Tailed()
    adapter = ConvNetAdapter(network)
    apart = Disconnected(network, adapter, Site("stage", "output", "channels_first"), 2, SIDE)
    inputs = torch.randn(3, 3, 8, 12)
    assert torch.allclose(apart(inputs), network(inputs[:, :, 4:, :6]), atol=1e-6)


def test_embeddings_are_explained_too() -> None:
    model = residual(num_classes=0)
    target = SimilarityTarget(torch.randn(16, generator=torch.Generator().manual_seed(3)))
    assert values(verdicts(model, "input_x_gradient", [1, 2], target=target)) == [1.0, 1.0]


def test_transformers_and_named_layers_are_refused(model: visattn.Model) -> None:
    metric, size = METRICS.get("difull")(), Size(64, 64)
    vit = visattn.load_model("reference:vit")
    reason = metric.refusal(vit, Trial.read("saliency", vit), size)
    assert reason is not None
    assert "VisionTransformer is no plain convolutional network" in reason
    with pytest.raises(UnsupportedMethodError, match="reference:vit cannot be cut apart"):
        disconnected(vit, 0, SIDE)
    layered = Trial.read("gradcam:layer=layer1", model)
    assert metric.refusal(model, layered, size) == "it names a layer of the connected network"
    assert metric.refusal(model, Trial.read("gradcam", model), size) is None


def test_maps_that_there_are_not_are_excluded_by_name(
    model: visattn.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial.read("saliency", model)
    case = case_of(model, trial, 0)
    error = UnsupportedMethodError("no")
    monkeypatch.setattr(Bench, "explain", lambda *_: [error])
    (verdict,) = METRICS.get("difull")().measure(Bench(model), [case])
    assert verdict == Excluded("UnsupportedMethodError on the network that is cut apart")
    flat = visattn.SaliencyMap(np.ones((4, 4)), case.found.geometry.with_grid(Size(4, 4)), "a", "b")
    monkeypatch.setattr(Bench, "explain", lambda *_: [flat])
    (verdict,) = METRICS.get("difull")().measure(Bench(model), [case])
    assert verdict == Excluded("map without signal of the network that is cut apart")
