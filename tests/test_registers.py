"""Test-time registers against naive copies of their rules, planted neurons, trained weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

import visattn
from tests.zoo import GRID, build, eva, images, vit
from visattn.adapters import Site
from visattn.errors import ConfigError, ModelError
from visattn.models import Model, load_model
from visattn.observation import observe
from visattn.registers import (
    RegisterNeurons,
    calibrate_registers,
    register_effect,
    with_test_time_registers,
)
from visattn.registers.neurons import neuron_readers
from visattn.registers.wrapper import Shift

PLAIN = (
    "class", "registers", "mean", "registers_mean_all", "latent_pool", "qk_norm", "post_norm",
    "eva_class", "eva_mean", "eva_registers", "eva_latent_pool",
)  # fmt: skip
PLANTED = (1, 17)
BRIGHT = (2, 3)


def chosen(*neurons: tuple[int, int], layer: int = 1) -> RegisterNeurons:
    return RegisterNeurons(neurons, (1.0,) * len(neurons), layer, None, 1, 1)


def naive_shift(values: np.ndarray, neurons: list[int], first: int, count: int) -> np.ndarray:
    result = values.copy()
    for image in range(len(values)):
        for neuron in neurons:
            column = values[image, :, neuron]
            strongest = column[np.argmax(np.abs(column))]
            for token in range(first, values.shape[1]):
                result[image, token, neuron] = strongest if token < first + count else 0.0
    return result


@pytest.mark.parametrize(("first", "count"), [(1, 1), (0, 1), (5, 3), (1, 0)])
def test_the_shift_is_that_of_a_loop_over_images_and_neurons(first: int, count: int) -> None:
    values = torch.randn(3, 14, 8, dtype=torch.float64)
    values[0, 9, 2], values[1, 0, 2] = -30, 20
    before = values.clone()
    found = Shift((2, 6), first, count)(nn.Identity(), (values,))
    assert np.array_equal(found.numpy(), naive_shift(before.numpy(), [2, 6], first, count))
    assert torch.equal(values, before)


def test_the_strongest_entry_keeps_its_sign_and_stays_with_its_image() -> None:
    values = torch.zeros(2, 6, 1)
    values[0, 4], values[0, 5], values[1, 3] = -3, 2, 7
    moved = Shift((0,), 1, 1)(nn.Identity(), (values,))
    assert moved[:, 1, 0].tolist() == [-3, 7]
    assert moved[:, 2:].abs().max() == 0


@pytest.mark.parametrize("name", PLAIN)
def test_without_neurons_and_registers_nothing_changes(name: str) -> None:
    model = load_model(build(name))
    wrapped = with_test_time_registers(model, chosen(), registers=0)
    assert torch.equal(wrapped.run(images()), model.run(images()))


@pytest.mark.parametrize("name", PLAIN)
def test_registers_enter_as_zeros_between_prefix_and_patches(name: str) -> None:
    model = load_model(build(name))
    wrapped = with_test_time_registers(model, chosen(), registers=2)
    entrance = Site("norm_pre", "input", "tokens")
    plain, extended = (
        observe(each.module, images(), attention=False, sites=[entrance])
        .activations[entrance].value
        for each in (model, wrapped)
    )  # fmt: skip
    prefix = plain.shape[1] - GRID[0] * GRID[1]
    assert extended[:, prefix : prefix + 2].abs().max() == 0
    assert torch.equal(extended[:, :prefix], plain[:, :prefix])
    assert torch.equal(extended[:, prefix + 2 :], plain[:, prefix:])


@pytest.mark.parametrize("name", ["class", "registers", "mean", "post_norm"])
def test_the_outputs_are_those_of_the_same_blocks_run_by_hand(name: str) -> None:
    module: Any = build(name)
    count = module.num_prefix_tokens
    batch = images()
    with torch.no_grad():
        tokens = module._pos_embed(module.patch_embed(batch))
        zeros = torch.zeros(len(batch), 3, tokens.shape[2])
        stream = module.norm_pre(torch.cat([tokens[:, :count], zeros, tokens[:, count:]], dim=1))
        stream = module.norm(module.blocks(stream))
        pooled = stream[:, count + 3 :].mean(dim=1) if module.global_pool == "avg" else stream[:, 0]
        expected = module.head(module.fc_norm(pooled))
    wrapped = with_test_time_registers(load_model(module), chosen(), registers=3)
    torch.testing.assert_close(wrapped.run(batch), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", PLAIN)
def test_patches_keep_their_rotary_positions_and_registers_have_none(name: str) -> None:
    """The first block's patch-to-patch scores are those of the model without registers."""
    model = load_model(build(name))
    wrapped = with_test_time_registers(model, chosen(), registers=1)
    plain, extended = (visattn.capture(each, images())[0] for each in (model, wrapped))
    patches = GRID[0] * GRID[1]
    scores = [
        torch.einsum("bhqc,bhkc->bhqk", op.query[:, :, -patches:], op.key[:, :, -patches:])
        for op in (plain, extended)
        if op.query is not None and op.key is not None
    ]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_explanations_know_the_layout_of_the_copy(name: str) -> None:
    model = load_model(build(name))
    wrapped = with_test_time_registers(model, chosen((0, 1), (2, 5)), registers=2)
    own = model.adapter.layout(visattn.Geometry.plain(GRID).grid).prefix
    prefix = wrapped.adapter.layout(visattn.Geometry.plain(GRID).grid).prefix
    assert len(prefix) == len(own) + 2
    found = visattn.explain(wrapped, images(), method="rollout")
    assert [each.grid.shape for each in found] == [GRID, GRID]
    assert "2 test-time registers" in found[0].model
    assert "[(0, 1), (2, 5)]" in found[0].provenance["model"]["source"]


def test_a_changed_input_size_resamples_patch_positions_only() -> None:
    model = load_model(vit(dynamic_img_size=True).eval())
    wrapped = with_test_time_registers(model, chosen(), registers=2)
    larger = images(size=(64, 96))
    entrance = Site("norm_pre", "input", "tokens")
    plain, extended = (
        observe(each.module, larger, attention=False, sites=[entrance]).activations[entrance].value
        for each in (model, wrapped)
    )
    assert torch.equal(extended[:, 3:], plain[:, 1:])
    assert extended[:, 1:3].abs().max() == 0


def test_the_given_model_is_not_changed() -> None:
    module = build("eva_registers")
    model = load_model(module)
    before, state = model.run(images()), {k: v.clone() for k, v in module.state_dict().items()}
    found = calibrate_registers(model, images(), threshold=0.0, neurons=4)
    wrapped = with_test_time_registers(model, found, registers=2)
    with torch.no_grad():
        for weight in wrapped.module.parameters():
            weight.zero_()
    assert torch.equal(model.run(images()), before)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert not any(part._forward_pre_hooks or part._forward_hooks for part in module.modules())
    assert all(weight.requires_grad for weight in module.parameters())


def planted() -> nn.Module:
    """A ViT in which one neuron fires at one cell and gives its token a huge norm."""
    module: Any = build("class")
    block, neuron = PLANTED
    mlp = module.blocks[block].mlp
    entrance = Site(f"blocks.{block}.mlp", "input", "tokens")
    seen = observe(module, bright(), attention=False, sites=[entrance]).activations[entrance].value
    token = 1 + BRIGHT[0] * GRID[1] + BRIGHT[1]
    others = torch.cat([seen[:, :token], seen[:, token + 1 :]], dim=1)
    direction = seen[:, token].mean(dim=0) - others.mean(dim=(0, 1))
    fires, quiet = (seen[:, token] @ direction).min(), (others @ direction).max()
    assert fires > quiet
    with torch.no_grad():
        gain = 40 / (fires - quiet)
        mlp.fc1.weight[neuron] = gain * direction
        mlp.fc1.bias[neuron] = -gain * (fires + quiet) / 2
        mlp.fc2.weight[:, neuron] = torch.randn(32, generator=torch.Generator().manual_seed(3))
    return module


def bright(batch: int = 3) -> torch.Tensor:
    """Noise in which one cell holds a checkerboard."""
    photos = images(batch) * 0.3
    top, left = BRIGHT[0] * 16, BRIGHT[1] * 16
    photos[:, :, top : top + 16 : 2, left : left + 16 : 2] += 0.5
    return photos


def activations(model: Model, batch: torch.Tensor) -> torch.Tensor:
    site = Site(f"blocks.{PLANTED[0]}.mlp.fc2", "input", "tokens")
    seen = observe(model.module, batch, attention=False, sites=[site])
    return seen.activations[site].value


def test_a_planted_register_neuron_is_found_and_moved_out_of_the_image() -> None:
    model = load_model(planted())
    found = calibrate_registers(model, bright(), neurons=3, layer=PLANTED[0], batch_size=2)
    assert found.neurons[0] == PLANTED
    assert found.scores[0] > 2 * found.scores[1]
    assert found.images == 3
    wrapped = with_test_time_registers(model, replace(found, neurons=found.neurons[:1]))
    before, after = (activations(each, bright())[:, :, PLANTED[1]] for each in (model, wrapped))
    assert after[:, 2:].abs().max() == 0
    assert torch.allclose(after[:, 1], before.abs().amax(dim=1), rtol=1e-2)
    for effect in register_effect(model, wrapped, bright(), found):
        assert effect.outliers == (1, 0)
        assert effect.peak[0] > 5
        assert effect.peak[1] < 2
        assert -1 <= effect.cosine <= 1


def test_scores_are_means_over_marked_tokens_then_over_images_that_have_any() -> None:
    model = load_model(build("registers"))
    batch = images(4)
    norms = patch_tokens(model, batch, 2).norm(dim=-1)
    threshold = float(norms.flatten().sort().values[-7])
    found = calibrate_registers(model, batch, neurons=10_000, threshold=threshold, layer=2)
    per_image: list[np.ndarray] = []
    for index in range(4):
        rows = [i for i in range(15) if norms[index, i] > threshold]
        if rows:
            blocks = [hidden(model, batch, b)[index, 5:][rows].abs().mean(dim=0) for b in range(3)]
            per_image.append(torch.cat(blocks).double().numpy())
    expected = np.mean(per_image, axis=0)
    width = hidden(model, batch, 0).shape[2]
    order = np.argsort(-expected, kind="stable")
    assert np.allclose(found.scores, expected[order], rtol=1e-5)
    assert found.neurons[:20] == tuple((int(i) // width, int(i) % width) for i in order[:20])
    assert (found.tokens, found.images) == (6, len(per_image))


def hidden(model: Model, batch: torch.Tensor, block: int) -> torch.Tensor:
    site = Site(f"blocks.{block}.mlp.fc2", "input", "tokens")
    return observe(model.module, batch, attention=False, sites=[site]).activations[site].value


def patch_tokens(model: Model, batch: torch.Tensor, block: int) -> torch.Tensor:
    site = Site(f"blocks.{block}", "output", "tokens")
    seen = observe(model.module, batch, attention=False, sites=[site]).activations[site].value
    return seen[:, -GRID[0] * GRID[1] :]


def test_batches_of_calibration_do_not_matter() -> None:
    model = load_model(planted())
    whole = calibrate_registers(model, bright(5), batch_size=5)
    parts = calibrate_registers(model, bright(5), batch_size=2)
    assert parts.neurons == whole.neurons
    assert parts.scores == pytest.approx(whole.scores, rel=1e-5)


def test_only_blocks_up_to_the_highest_are_considered() -> None:
    model = load_model(planted())
    all_blocks = calibrate_registers(model, bright(), layer=-1, neurons=50)
    first = calibrate_registers(model, bright(), layer=-1, highest=0, neurons=50)
    assert PLANTED in all_blocks.neurons
    assert {block for block, _ in first.neurons} == {0}
    assert (all_blocks.layer, first.layer) == (2, 2)


def test_an_image_comes_out_the_same_in_any_batch() -> None:
    model = load_model(planted())
    wrapped = with_test_time_registers(model, chosen(PLANTED))
    batch = torch.cat([bright(2), images(2)])
    alone = torch.cat([wrapped.run(batch[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(wrapped.run(batch), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale_mlp", [False, True])
def test_gated_mlps_have_neurons_behind_the_gate(scale_mlp: bool) -> None:
    module = eva(swiglu_mlp=True, scale_mlp=scale_mlp, global_pool="token").eval()
    widths = {reader.in_features for reader in neuron_readers(module)}
    assert widths == {int(32 * 4 * 2 / 3)}
    model = load_model(module)
    wrapped = with_test_time_registers(model, chosen((1, 5)))
    after = hidden(wrapped, images(), 1)
    assert after[:, 2:, 5].abs().max() == 0
    assert after[:, 1, 5].abs().min() > 0


def test_gradients_flow_through_the_shift() -> None:
    wrapped = with_test_time_registers(load_model(planted()), chosen(PLANTED))
    (found,) = visattn.explain(wrapped, bright(1), method="gae", target=0)
    assert found.no_signal is None


def test_a_copy_can_be_stored(tmp_path: Path) -> None:
    wrapped = with_test_time_registers(load_model(planted()), chosen(PLANTED))
    torch.save(wrapped.module, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(load_model(again).run(bright()), wrapped.run(bright()))


@pytest.mark.parametrize(
    ("module", "told"),
    [
        (lambda: build("beit_class"), "relative position bias"),
        (lambda: build("distilled"), "in its own way"),
        (lambda: build("parallel"), "no mlp.fc2"),
        (lambda: build("resnet"), "attends to itself as a whole"),
        (
            lambda: timm.create_model(
                "swin_tiny_patch4_window7_224", embed_dim=24, depths=(1, 1, 1, 1)
            ),
            "without windows",
        ),
    ],
)
def test_models_without_a_place_for_registers_are_refused(module: Any, told: str) -> None:
    model = load_model(module().eval())
    for refused in (
        lambda: calibrate_registers(model, images()),
        lambda: with_test_time_registers(model, chosen()),
    ):
        with pytest.raises(ModelError, match=told):
            refused()


def test_neurons_of_another_model_are_refused() -> None:
    model = load_model(build("class"))
    with pytest.raises(ModelError, match="no block 7"):
        with_test_time_registers(model, chosen((7, 0)))
    with pytest.raises(ModelError, match="128 neurons"):
        with_test_time_registers(model, chosen((1, 128)))


def test_a_model_is_wrapped_once() -> None:
    wrapped = with_test_time_registers(load_model(build("class")), chosen())
    with pytest.raises(ModelError, match="already"):
        with_test_time_registers(wrapped, chosen())


def test_wrong_numbers_are_refused() -> None:
    model = load_model(build("class"))
    with pytest.raises(ConfigError, match="negative"):
        with_test_time_registers(model, chosen(), registers=-1)
    for wrong in ({"layer": 3}, {"highest": -4}, {"neurons": -1}, {"batch_size": 0}):
        with pytest.raises(ConfigError):
            calibrate_registers(model, images(), **{"threshold": 0.0, **wrong})
    with pytest.raises(ModelError, match="nothing to calibrate"):
        calibrate_registers(model, images(), threshold=1e6)


def test_dinov2_loses_its_high_norm_tokens_and_keeps_its_embedding(photos: Path) -> None:
    model = load_model("packaged:dinov2_small", image_size=448)
    paths = [photos / "astronaut.jpg", photos / "coffee.jpg"]
    found = calibrate_registers(model, paths, neurons=30)
    assert found.layer == 10
    assert found.tokens > 20
    effects = register_effect(model, with_test_time_registers(model, found), paths, found)
    assert sum(effect.outliers[0] for effect in effects) == found.tokens
    assert sum(effect.outliers[1] for effect in effects) < found.tokens / 4
    assert min(effect.cosine for effect in effects) > 0.97
