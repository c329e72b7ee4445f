"""Every formula against its dense float64 form, on every token arrangement."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import visattn
from tests import zoo
from tests.methods import oracle
from visattn.methods import get_method
from visattn.models import Model

BATCH = 2


def explained(name: str, method: str, dtype: torch.dtype, **options: object) -> list[torch.Tensor]:
    module = zoo.build(name).to(dtype)
    model = visattn.load_model(module, image_size=zoo.SIZE)
    target = None if not get_method(method).class_specific else top_output
    maps = visattn.explain(
        model, zoo.images(BATCH).to(dtype), method=method, target=target, **options
    )
    return [torch.from_numpy(m.grid.copy()).double().flatten() for m in maps]


def top_output(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.amax(dim=1)


def assert_agree(found: torch.Tensor, right: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert (found - right).abs().max() <= tolerance * right.abs().max()


def dense_of(name: str, index: int) -> oracle.Dense:
    return oracle.Dense(zoo.build(name), zoo.images(BATCH)[index])


@pytest.mark.parametrize("name", zoo.VITS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rollout_is_the_dense_product(name: str, dtype: torch.dtype) -> None:
    for index, grid in enumerate(explained(name, "rollout", dtype)):
        assert_agree(grid, oracle.rollout(name, dense_of(name, index))[oracle.PREFIX[name] :])


@pytest.mark.parametrize("name", zoo.VITS)
def test_gae_is_the_dense_recursion(name: str) -> None:
    for index, grid in enumerate(explained(name, "gae", torch.float32)):
        assert_agree(grid, oracle.gae(name, dense_of(name, index))[oracle.PREFIX[name] :])


@pytest.mark.parametrize("name", zoo.VITS)
def test_attention_is_the_dense_row(name: str) -> None:
    for index, grid in enumerate(explained(name, "attention", torch.float32)):
        assert_agree(grid, oracle.attention(name, dense_of(name, index))[oracle.PREFIX[name] :])


@pytest.mark.parametrize("name", ["class", "registers", "mean", "latent_pool", "parallel"])
@pytest.mark.parametrize("heads", ["max", "min"])
@pytest.mark.parametrize(("residual", "first"), [(0.5, 0), (0.2, 1), (0.0, 0)])
def test_rollout_options(name: str, heads: str, residual: float, first: int) -> None:
    found = explained(
        name, "rollout", torch.float32, heads=heads, residual=residual, start_layer=first
    )
    right = oracle.rollout(name, dense_of(name, 1), heads=heads, residual=residual, first=first)
    assert_agree(found[1], right[oracle.PREFIX[name] :])


@pytest.mark.parametrize("first", [1, 2])
def test_gae_start_layer(first: int) -> None:
    found = explained("registers", "gae", torch.float32, start_layer=first)
    assert_agree(found[0], oracle.gae("registers", dense_of("registers", 0), first)[5:])


@pytest.mark.parametrize("name", ["class", "registers", "mean"])
@pytest.mark.parametrize("heads", ["mean", "max"])
def test_rollout_discards_patch_to_patch_entries_only(name: str, heads: str) -> None:
    (found, _) = explained(name, "rollout", torch.float32, heads=heads, discard_ratio=0.6)
    dense, prefix = dense_of(name, 0), oracle.PREFIX[name]
    product = oracle.identity(dense.attn[0])
    for attn in dense.attn:
        fused = oracle.fuse(attn, heads).numpy().copy()
        patches = fused[prefix:, prefix:]
        patches[patches < np.quantile(patches, 0.6)] = 0.0
        matrix = 0.5 * oracle.identity(attn) + 0.5 * torch.from_numpy(fused)
        product = oracle.row_normalised(matrix) @ product
    assert_agree(found, (oracle.start(name, dense, None) @ product)[prefix:])


def test_gae_needs_each_layers_own_gradient() -> None:
    dense = dense_of("class", 0)
    right = oracle.gae("class", dense)
    dense.gradient.reverse()
    reversed_pairing = oracle.gae("class", dense)
    assert (right - reversed_pairing).abs().max() > 1e-3 * right.abs().max()


def test_gae_clamps_before_the_head_mean() -> None:
    dense = dense_of("class", 0)
    right = oracle.gae("class", dense)
    found = explained("class", "gae", torch.float32)[0]
    late = oracle.identity(dense.attn[0])
    for attn, gradient in zip(dense.attn, dense.gradient, strict=True):
        late = late + (attn * gradient).mean(0).clamp(min=0) @ late
    assert (right[1:] - late[0][1:]).abs().max() > 1e-3 * right[1:].abs().max()
    assert_agree(found, right[1:])


@pytest.mark.parametrize("name", zoo.VITS)
def test_rollout_row_keeps_the_sum_one(name: str) -> None:
    row = oracle.rollout(name, dense_of(name, 0))
    assert abs(float(row.sum()) - 1) < 1e-12
    grid = explained(name, "rollout", torch.float32)[0]
    assert abs(float(grid.sum() + row[: oracle.PREFIX[name]].sum()) - 1) < 1e-5


def cam_parts(module: torch.nn.Module, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Input of the global pool and the top score's gradient by it, in float64."""
    seen: list[torch.Tensor] = []
    pool = module.global_pool if hasattr(module, "global_pool") else module.head.global_pool
    handle = pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    outputs = module.double()(image[None].double().requires_grad_())
    handle.remove()
    (gradient,) = torch.autograd.grad(outputs.max(), seen)
    return seen[0][0].detach(), gradient[0]


@pytest.mark.parametrize("name", zoo.CNNS)
@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_cam_of_a_cnn_literally(name: str, method: str) -> None:
    values, gradients = cam_parts(zoo.build(name), zoo.images(BATCH)[1])
    channels, rows, cols = values.shape
    right = torch.zeros(rows, cols, dtype=torch.float64)
    for c in range(channels):
        for p in range(rows):
            for q in range(cols):
                weight = gradients[c].mean() if method == "gradcam" else max(gradients[c, p, q], 0)
                right[p, q] += weight * values[c, p, q]
    assert_agree(explained(name, method, torch.float32)[1], right.clamp(min=0).flatten())


@pytest.mark.parametrize("name", ["class", "registers", "distilled", "mean", "post_norm"])
def test_gradcam_of_tokens_literally(name: str) -> None:
    module = zoo.build(name)
    seen: list[torch.Tensor] = []
    exact = zoo.build(name).double()
    block = exact.blocks[-1]
    if name == "post_norm":
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    else:
        block.norm1.register_forward_hook(lambda _, __, output: seen.append(output))
    outputs = exact(zoo.images(BATCH)[:1].double().requires_grad_())
    (gradient,) = torch.autograd.grad(outputs.max(), seen)
    patches = slice(oracle.PREFIX[name], None)
    values, gradient = seen[0][0, patches].detach(), gradient[0, patches]
    right = (values * gradient.mean(dim=0)).sum(dim=1).clamp(min=0)
    model = visattn.load_model(module, image_size=zoo.SIZE)
    found = visattn.explain(model, zoo.images(BATCH), method="gradcam", target=top_output)
    assert_agree(torch.from_numpy(found[0].grid.copy()).double().flatten(), right)


class LinearModel(torch.nn.Module):
    """Scores that are linear in the pixels, so that every attribution is known."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 3 * 4 * 6))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1) @ self.weight.T


def test_integrated_gradients_of_a_linear_model_are_its_contributions() -> None:
    torch.manual_seed(0)
    module, inputs = LinearModel(), torch.randn(2, 3, 4, 6)
    maps = visattn.explain(module, inputs, method="integrated_gradients", target=[2, 0], steps=3)
    for index, wanted in enumerate((2, 0)):
        weight = module.weight[wanted].detach().reshape(3, 4, 6)
        right = (weight * inputs[index]).sum(dim=0).double()
        assert_agree(torch.from_numpy(maps[index].grid.copy()).double(), right)
        assert abs(maps[index].provenance["completeness_gap"]) < 1e-3
        assert maps[index].signed


@pytest.fixture(scope="module")
def trained(dinov2: Model) -> Model:
    return dinov2


@pytest.mark.parametrize("method", ["attention", "rollout", "gae"])
def test_trained_dinov2_agrees_with_the_dense_oracle(trained: Model, method: str) -> None:
    inputs = zoo.images(1, (140, 196))
    target = (lambda outputs: outputs[:, 3]) if method == "gae" else None
    (found,) = visattn.explain(trained, inputs, method=method, target=target)
    dense = oracle.Dense(trained.module, inputs[0], lambda outputs: outputs[:, 3])
    right = getattr(oracle, method)("class", dense)[1:]
    assert found.grid.shape == (10, 14)
    assert_agree(torch.from_numpy(found.grid.copy()).double().flatten(), right)
