"""Transformer attribution and its rules of relevance, against relprop module by module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import visattn
from tests import zoo
from tests.methods import oracle, relprop_oracle
from visattn.errors import CaptureError, UnsupportedMethodError
from visattn.methods.relevance_pass import relevance_refusal
from visattn.models import Model
from visattn.propagation import relevance_rules
from visattn.propagation.relevance_rules import Addition, Attention, Product, Proportional, ZPlus

METHOD = "transformer_attribution"
NAMES = ["class", "registers", "distilled", "mean", "class_but_mean", "qk_norm"]


def class_score(outputs: torch.Tensor) -> torch.Tensor:
    return outputs[:, 3]


def found(module: nn.Module, inputs: torch.Tensor, **options: Any) -> list[torch.Tensor]:
    model = visattn.load_model(module, image_size=tuple(inputs.shape[-2:]))
    options = {"target": class_score, **options}
    maps = visattn.explain(model, inputs, method=METHOD, **options)
    return [torch.from_numpy(one.grid.copy()).double().flatten() for one in maps]


def right(
    name: str, module: nn.Module, image: torch.Tensor, first: int = 0, output: int = 3
) -> torch.Tensor:
    dense = oracle.Dense(module, image, lambda outputs: outputs[:, output])
    relprop = relprop_oracle.Relprop(name, module, image, output)
    start = oracle.start(name, dense, None)
    row = relprop_oracle.attribution(start, relprop.attn, dense.gradient, first)
    return row[oracle.PREFIX[name] :]


def assert_close(one: torch.Tensor, other: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert (one - other).abs().max() <= tolerance * other.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_those_of_relprop(name: str) -> None:
    inputs = zoo.images(2)
    for image, grid in zip(inputs, found(zoo.build(name), inputs), strict=True):
        assert_close(grid, right(name, zoo.build(name), image))


def test_two_blocks_in_float64_agree_to_the_rounding_of_the_map() -> None:
    torch.manual_seed(3)
    toy = zoo.vit(depth=2, init_values=0.3).double().eval()
    inputs = zoo.images(2).double()
    for image, grid in zip(inputs, found(toy, inputs), strict=True):
        assert_close(grid, right("class", toy, image), 2e-7)  # maps are stored in float32


@pytest.mark.parametrize("first", [1, 2])
def test_start_layer_drops_the_first_layers(first: int) -> None:
    (grid,) = found(zoo.build("registers"), zoo.images(1), start_layer=first)
    assert_close(grid, right("registers", zoo.build("registers"), zoo.images(1)[0], first))


def test_the_trained_dinov2_agrees(dinov2: Model) -> None:
    inputs = zoo.images(1, (140, 196))
    (one,) = visattn.explain(dinov2, inputs, method=METHOD, target=class_score)
    grid = torch.from_numpy(one.grid.copy()).double().flatten()
    assert_close(grid, right("class", dinov2.module, inputs[0]))


def test_the_score_may_be_any_function_and_a_negated_one_turns_the_gradient() -> None:
    """R starts from each output's share in the score, which is one for a class alone."""
    module, image = zoo.build("class"), zoo.images(1)
    (scaled,) = found(module, image, target=lambda outputs: 2 * outputs[:, 3])
    assert_close(scaled, 2 * found(module, image)[0], 1e-6)
    (turned,) = found(module, image, target=lambda outputs: -outputs[:, 3])
    assert not torch.allclose(turned, found(module, image)[0], rtol=0.1)
    dense = oracle.Dense(module, image[0], lambda outputs: -outputs[:, 3])
    relprop = relprop_oracle.Relprop("class", module, image[0], 3)
    start = oracle.start("class", dense, None)
    assert_close(turned, relprop_oracle.attribution(start, relprop.attn, dense.gradient)[1:])


def test_relevance_of_an_image_is_its_own() -> None:
    """Sums of an addition over a batch, as in the reference code, change the map."""
    module, inputs = zoo.build("class"), zoo.images(3)
    together = found(module, inputs)
    for index, grid in enumerate(together):
        assert torch.equal(grid, found(module, inputs[index : index + 1])[0])
    one, other, given = (torch.randn(2, 5, 4, dtype=torch.float64) for _ in range(3))
    whole = relprop_oracle.addition(one, other, given)[0][0]
    alone = relprop_oracle.addition(one[0], other[0], given[0])[0]
    assert (whole - alone).abs().max() > 1e-2 * alone.abs().max()


def test_wrong_variants_give_other_maps() -> None:
    module, image = zoo.build("class"), zoo.images(1)[0]
    dense = oracle.Dense(module, image, class_score)
    relprop = relprop_oracle.Relprop("class", module, image, 3)
    start = oracle.start("class", dense, None)
    good = relprop_oracle.attribution(start, relprop.attn, dense.gradient)
    late, eye = oracle.identity(dense.attn[0]), oracle.identity(dense.attn[0])
    for attn, slope in zip(relprop.attn, dense.gradient, strict=True):
        late = (eye + (attn * slope).mean(dim=0).clamp(min=0)) @ late
    wrong = {
        "reversed": relprop_oracle.attribution(start, relprop.attn[::-1], dense.gradient),
        "attention for relevance": relprop_oracle.attribution(start, dense.attn, dense.gradient),
        "clamped behind the mean": start @ (late - eye),
    }
    for variant, row in wrong.items():
        gap = (row - good)[1:].abs().max()
        assert gap > 1e-2 * good[1:].abs().max(), variant


def moved(function: Any, relevance: torch.Tensor, *tensors: torch.Tensor) -> list[torch.Tensor]:
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    return list(torch.autograd.grad(function(*leaves), leaves, relevance))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_a_linear_layer_is_z_plus_by_definition_and_conserves() -> None:
    x, weight, given = normal(3, 5), normal(4, 5, seed=1), normal(3, 4, seed=2)

    def layer(source: torch.Tensor) -> Any:
        return ZPlus.apply(source, weight, lambda s: s @ weight.T + 7, lambda s, w: s @ w.T)

    (relevance,) = moved(layer, given, x)
    for token in range(3):
        wanted = relprop_oracle.linear_by_loops(x[token], weight, given[token])
        torch.testing.assert_close(relevance[token], wanted, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(relevance, relprop_oracle.linear(x, weight, given))
    assert float(relevance.sum()) == pytest.approx(float(given.sum()), abs=1e-6)
    assert torch.equal(layer(x), x @ weight.T + 7)


def test_additions_conserve_and_keep_the_ratio_of_absolute_sums() -> None:
    one, other, given = normal(4, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)
    first, second = moved(Addition.apply, given, one, other)
    share = given / (one + other)
    ratio = (one * share).sum().abs() / (other * share).sum().abs()
    assert float((first + second).sum()) == pytest.approx(float(given.sum()), abs=1e-6)
    assert float(first.sum() / second.sum()) == pytest.approx(float(ratio), rel=1e-6)


def test_matrix_products_and_means_conserve() -> None:
    one, other, given = normal(2, 4, 3), normal(2, 3, 5, seed=1), normal(2, 4, 5, seed=2)
    first, second = moved(lambda a, b: Product.apply(a, b, torch.matmul), given, one, other)
    for part in (first, second):
        assert float(part.sum()) == pytest.approx(float(given.sum()) / 2, abs=1e-6)
    (mean,) = moved(lambda a: Proportional.apply(a, lambda s: s.mean(dim=1)), given[:, 0, :3], one)
    torch.testing.assert_close(mean.sum(dim=1), given[:, 0, :3], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mask", [None, "bias", "bool", "row"])
def test_fused_attention_is_its_parts(mask: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row blocks, masks and scale included; the output is that of the kernel."""
    query, key, value = (normal(2, 3, 7, 4, seed=seed) for seed in range(3))
    given = normal(2, 3, 7, 4, seed=3)
    added = {
        "bias": normal(1, 3, 7, 7, seed=4),
        "bool": normal(2, 1, 7, 7, seed=4) > -1,
        "row": normal(2, 1, 1, 7, seed=4),
    }.get(mask or "")

    def fused(*operands: torch.Tensor) -> Any:
        return Attention.apply(*operands, added, 0.7)

    whole = moved(fused, given, query, key, value)
    monkeypatch.setattr(relevance_rules, "BLOCK_BYTES", 700)
    blocks = moved(fused, given, query, key, value)
    scores = query @ key.mT
    if mask == "bool":
        attn = (0.7 * scores).masked_fill(~added, float("-inf")).softmax(dim=-1)
    else:
        attn = (0.7 * scores + (0 if added is None else added)).softmax(dim=-1)
    weights, by_value = relprop_oracle.values(attn, value, given)
    by_query, by_key = relprop_oracle.dots(query, key, weights)
    for parts in (whole, blocks):
        for part, wanted in zip(parts, (by_query, by_key, by_value), strict=True):
            torch.testing.assert_close(part, wanted, rtol=1e-8, atol=1e-10)
    kernel = functional.scaled_dot_product_attention(query, key, value, added, scale=0.7)
    assert torch.equal(fused(query, key, value), kernel)


@pytest.mark.parametrize("name", ["class", "latent_pool", "transformers_clip", "torchvision_vit"])
def test_written_out_attention_gives_the_same_map(name: str) -> None:
    if name not in zoo.ALL:
        pytest.skip("transformers is not installed")
    inputs = zoo.images(1, zoo.size_of(name))
    fused, plain = zoo.build(name), zoo.unfuse(zoo.build(name))
    for part in plain.modules():
        if hasattr(part, "config"):
            setattr(part.config, "_attn_implementation", "eager")  # noqa: B010
        if isinstance(part, nn.MultiheadAttention):
            part.register_forward_pre_hook(with_weights, with_kwargs=True)
    assert_close(found(plain, inputs)[0], found(fused, inputs)[0], 1e-4)


def with_weights(_: nn.Module, args: Any, kwargs: Any) -> Any:
    return args, {**kwargs, "need_weights": True}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("eva_mean", r"mul of 2 activations in blocks\.\d\.mlp"),
        ("cait", r"blocks\.0\.attn mixes its heads"),
        ("fastvit", r"mul of 2 activations in final_conv\.se"),
        ("sam", r"einsum in blocks\.\d\.attn"),
    ],
)
def test_functions_without_a_rule_are_refused_by_name(name: str, reason: str) -> None:
    model = visattn.load_model(zoo.build(name), image_size=zoo.size_of(name))
    with pytest.raises(UnsupportedMethodError, match=rf"{METHOD} does not apply.*{reason}"):
        visattn.explain(model, zoo.images(1, zoo.size_of(name)), method=METHOD, target=top)


def top(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.flatten(1).amax(dim=1)


def test_without_a_try_on_shapes_the_pass_itself_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "visattn.methods.transformer_attribution.relevance_refusal", lambda *_: None
    )
    for name, reason in (("eva_mean", "mul of 2 activations"), ("cait", "mixes its heads")):
        with pytest.raises(UnsupportedMethodError, match=reason):
            found(zoo.build(name), zoo.images(1), target=top)


def test_an_encoder_and_a_decoder_are_refused() -> None:
    if "transformers_detr" not in zoo.ALL:
        pytest.skip("transformers is not installed")
    inputs = zoo.images(1, zoo.size_of("transformers_detr"))
    method = visattn.methods.get_method(METHOD).create(METHOD, {"query": "object 0"})
    model = visattn.load_model(zoo.build("transformers_detr"), image_size=tuple(inputs.shape[2:]))
    reason = method.refusal(model.adapter, model.input_size)
    assert reason is not None
    assert "gae has" in reason


@pytest.mark.parametrize("name", ["sam_rope", "efficientformer", "class"])
def test_the_model_does_not_notice(name: str) -> None:
    """Neither outputs nor what it remembers change, though the pass runs in float64."""
    module, inputs = zoo.build(name), zoo.images(1, zoo.size_of(name))
    seen: list[torch.Tensor] = []
    module.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    flags = [weight.requires_grad for weight in module.parameters()]
    before = module(inputs)
    relevance_refusal(module, visattn.images.Size(*zoo.size_of(name)))
    assert len(seen) == 1
    found(module, inputs, target=top)
    assert [each.dtype for each in seen] == [torch.float32, torch.float32, torch.float64]
    assert torch.equal(module(inputs), before)
    assert [weight.requires_grad for weight in module.parameters()] == flags
    assert all(weight.grad is None and not weight.is_meta for weight in module.parameters())
    assert not module.training


def test_float32_is_a_choice_and_told() -> None:
    model = visattn.load_model(zoo.build("class"), image_size=zoo.SIZE)
    options: dict[str, Any] = {"method": METHOD, "target": 3}
    (one,) = visattn.explain(model, zoo.images(1), precision="float32", start_layer=2, **options)
    (two,) = visattn.explain(model, zoo.images(1), start_layer=2, **options)
    assert any("propagated in float32" in note for note in one.warnings)
    assert not any("float32" in note for note in two.warnings)
    assert abs(one.grid - two.grid).max() < 1e-3 * two.grid.max()
    with pytest.raises(UnsupportedMethodError, match=r"precision='half'.*float64, float32"):
        visattn.explain(model, zoo.images(1), precision="half", **options)


class Unsteady(nn.Module):
    """A model that computes something else in another precision."""

    def __init__(self, vit: nn.Module) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.vit(inputs if inputs.dtype == torch.float32 else -5 * inputs)


def test_a_pass_with_other_outputs_is_refused() -> None:
    from visattn.methods.relevance_pass import relevance_record
    from visattn.observation import Rerun, capture

    vit = zoo.build("class")
    record = capture(vit, zoo.images(1), gradients_of=3)
    rerun = Rerun(Unsteady(vit), record.adapter, record.again.targets)
    changed = visattn.observation.AttentionRecord(
        record.operations, {}, record.inputs, record.outputs, record.adapter, (), rerun
    )
    with pytest.raises(CaptureError, match="differ from those of the model"):
        relevance_record(changed, 0, torch.float64)
