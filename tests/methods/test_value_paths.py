"""Methods that weigh attention by values or by gradients on a path, against their dense forms."""

from __future__ import annotations

import copy
from functools import cache
from operator import attrgetter
from typing import Any

import pytest
import torch
from torch import nn

import visattn
from tests import zoo
from tests.methods import oracle, steps_oracle
from tests.methods import values_oracle as right
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.methods import bth, create_method, get_method, path, values
from visattn.models import Model
from visattn.models.inputs import prepare_all
from visattn.observation import operation, record_pass

PLAIN = ("class", "registers", "distilled", "mean", "class_but_mean", "registers_mean_all",
         "headless", "qk_norm", "eva_class", "eva_mean", "beit_mean", "beit_class")  # fmt: skip
POOLED = ("latent_pool", "latent_pool_registers", "eva_latent_pool")
FAMILY = ("swin", "swin_padded", "cait", "pvt_v2", "mvitv2", "tiny_vit_padded", "maxvit",
          "davit", "levit", "efficientvit_msra", "torchvision_vit", "open_clip_coca",
          "transformers_siglip", "transformers_dinov2", "nest", "parallel")  # fmt: skip
PATHS = ("bth", "btt", "tam")
ALL = ("value_norm", *PATHS, "tokentm")
STEPS = 3


@cache
def module_of(name: str) -> nn.Module:
    """Return a model of the zoo with biases that are not zero, so that no formula may drop them."""
    module = zoo.build(name)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight_name, weight in module.named_parameters():
            if weight_name.endswith("bias") and weight.ndim == 1:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return module


def top_output(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.flatten(1).amax(dim=1)


def image_of(name: str) -> torch.Tensor:
    return zoo.images(2, zoo.size_of(name))


def found(name: str, method: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """Return the map of the second of two images."""
    module = module_of(name)
    if dtype != torch.float32:
        module = copy.deepcopy(module).to(dtype)
    model = visattn.load_model(module, image_size=zoo.size_of(name))
    target = top_output if get_method(method).class_specific else None
    maps = visattn.explain(model, image_of(name).to(dtype), method=method, target=target, **options)
    return torch.from_numpy(maps[1].grid.copy()).double().flatten()


@cache
def dense_of(name: str) -> oracle.Dense:
    return oracle.Dense(module_of(name), image_of(name)[1], top_output)


@cache
def tokens_of(name: str) -> right.Tokens:
    return right.Tokens(module_of(name), image_of(name)[1])


@cache
def path_of(name: str) -> right.Path:
    return right.Path(module_of(name), image_of(name)[1], STEPS, top_output)


def agree(one: torch.Tensor, other: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert (one - other).abs().max() <= tolerance * other.abs().max()


def differ(one: torch.Tensor, other: torch.Tensor) -> None:
    assert (one - other).abs().max() > 1e-3 * other.abs().max()


def patches(name: str, row: torch.Tensor) -> torch.Tensor:
    return row[oracle.PREFIX[name] :]


@pytest.mark.parametrize("name", [*PLAIN, *POOLED])
@pytest.mark.parametrize(
    ("residual", "chain"), [(False, False), (True, False), (False, True), (True, True)]
)
def test_value_norm_is_the_norm_of_contribution_vectors(
    name: str, residual: bool, chain: bool
) -> None:
    options = {"residual": residual, "chain": chain}
    wanted = right.value_norm(name, dense_of(name), tokens_of(name), **options)
    agree(found(name, "value_norm", **options), patches(name, wanted))


@pytest.mark.parametrize("name", [*PLAIN, *POOLED])
def test_beyond_intuition_and_transition_maps_are_the_dense_products(name: str) -> None:
    for method in PATHS:
        inputs = (path_of(name), tokens_of(name)) if method == "btt" else (path_of(name),)
        for first in (0, 2):
            wanted = getattr(right, method)(name, *inputs, first)
            given = found(name, method, steps=STEPS, start_layer=first)
            agree(given, patches(name, wanted))


@pytest.mark.parametrize("name", ["parallel", "post_norm", "refined_pool", "beit_shared_bias"])
def test_methods_without_values_take_other_blocks_too(name: str) -> None:
    if name != "parallel":
        for method in ("bth", "tam"):
            wanted = patches(name, getattr(right, method)(name, path_of(name)))
            agree(found(name, method, steps=STEPS), wanted)
    else:
        assert found(name, "bth", steps=STEPS).any()


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize(("variant", "first"), [("heads", 0), ("heads", 1), ("mean", 0)])
def test_tokentm_is_the_dense_product(name: str, variant: str, first: int) -> None:
    wanted = right.tokentm(name, dense_of(name), tokens_of(name), first, variant)
    given = found(name, "tokentm", variant=variant, start_layer=first)
    agree(given, patches(name, wanted))


def exact(name: str, method: str, **options: Any) -> torch.Tensor:
    """Return the values of the second image in double precision, before a map rounds them."""
    model = visattn.load_model(copy.deepcopy(module_of(name)).double(), image_size=zoo.SIZE)
    prepared = prepare_all(model, image_of(name).double())
    made = create_method(method, **options)
    passed = record_pass(model, prepared, target=top_output, sites=list(made.sites(model.adapter)))
    return made(passed.record, [item.geometry for item in prepared]).values[1].flatten()


@pytest.mark.parametrize("name", ["class", "registers", "latent_pool"])
def test_in_double_precision_only_rounding_is_left(name: str) -> None:
    dense, tokens, points = dense_of(name), tokens_of(name), path_of(name)
    wanted = {
        "value_norm": right.value_norm(name, dense, tokens),
        "bth": right.bth(name, points),
        "btt": right.btt(name, points, tokens),
        "tam": right.tam(name, points),
    }
    if name not in POOLED:
        wanted["tokentm"] = right.tokentm(name, dense, tokens)
    for method, row in wanted.items():
        steps = {"steps": STEPS} if method in PATHS else {}
        agree(exact(name, method, **steps), patches(name, row), 1e-9)


@pytest.mark.parametrize("wide", [True, False])
def test_blocks_and_both_ways_to_keep_a_path_give_the_same(
    wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row, or one token, at a time; rows added up, or factors side by side."""
    for part in (operation, path, bth, values):
        monkeypatch.setattr(part, "BLOCK_BYTES", 1)
    monkeypatch.setattr(path, "smaller", lambda *_: not wide)
    for name in ("registers", "mean"):
        for method in PATHS:
            inputs = (path_of(name), tokens_of(name)) if method == "btt" else (path_of(name),)
            wanted = patches(name, getattr(right, method)(name, *inputs))
            agree(found(name, method, steps=STEPS, chunk=2), wanted)
        wanted = right.value_norm(name, dense_of(name), tokens_of(name), chain=True)
        agree(found(name, "value_norm", chain=True), patches(name, wanted))


def record_at(model: Model, inputs: torch.Tensor) -> visattn.AttentionRecord:
    return visattn.capture(model, inputs, gradients_of=top_output)


def gradient_of(record: Any, placed: Any) -> torch.Tensor:
    """G (window, head, query, key) of the second image."""
    op = record.placed(placed)
    rows = op.gradient_rows(torch.arange(op.shape[2])).double()
    return rows.reshape(2, placed.windows, *rows.shape[1:])[1]


def placed_matrix(placed: Any, blocks: torch.Tensor) -> torch.Tensor:
    """Q X K (token after, token before) from X (window, query, key)."""
    middle = steps_oracle.block_diagonal(blocks)
    return placed.queries.matrix() @ middle @ placed.keys.matrix()


def walked(model: Model, inputs: torch.Tensor, method: str) -> torch.Tensor:
    """The walk and its feedback with every step as a dense matrix."""
    records = [record_at(model, (k / (STEPS - 1)) * inputs) for k in range(STEPS)]
    record, chain = records[-1], records[-1].chain()
    last = chain.pool or chain.steps[chain.layers[-1]]
    steps = [*chain.steps, *([chain.pool] if chain.pool else [])]
    parts = []
    for placed in last.placements:
        mean = sum(gradient_of(each, placed) for each in records) / STEPS
        parts.append(placed_matrix(placed, mean.clamp(min=0).mean(dim=1)))
    row = steps_oracle.start(chain)
    feedback = row
    for step in reversed(steps):
        if step is last:
            feedback = feedback @ (sum(parts) / len(parts))
            break
        feedback = feedback @ steps_oracle.residual(step)
    for step in reversed(steps[: steps.index(last)]):
        feedback = feedback @ steps_oracle.residual(step)
    for step in reversed(steps):
        skip = 0 if step.skip is None else step.skip.matrix()
        if not step.placements:
            row = row @ skip
            continue
        moved = heads_weighed(record, step) if method == "bth" else means(record, step)
        alone = method == "tam" and step is last
        row = row @ (moved if alone else skip + moved)
    return (row * feedback)[chain.layout.places]


def means(record: Any, step: Any) -> torch.Tensor:
    return sum(steps_oracle.dense(record, p, 1) for p in step.placements) / len(step.placements)


def heads_weighed(record: Any, step: Any) -> torch.Tensor:
    """``sum_h theta_h A_h`` with theta over the heads of all operations and all windows."""
    found = []
    for placed in step.placements:
        attn = steps_oracle.windows_of(placed, record.placed(placed), 1)
        gradient = gradient_of(record, placed)
        found.append((placed, attn, (attn.mT @ gradient).abs().mean(dim=(0, 2, 3))))
    total = sum(importance.sum() for *_, importance in found)
    return sum(
        placed_matrix(placed, torch.einsum("h,whij->wij", importance / total, attn))
        for placed, attn, importance in found
    )


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("method", ["bth", "tam"])
def test_windows_merging_and_pools_are_the_dense_products(name: str, method: str) -> None:
    if name not in zoo.ALL:
        pytest.skip("its library is not installed")
    model = visattn.load_model(module_of(name), image_size=zoo.size_of(name))
    wanted = walked(model, image_of(name), method)
    agree(found(name, method, steps=STEPS), wanted, 2e-5)


@pytest.mark.parametrize(
    "name", ["torchvision_vit", "open_clip_vit", "transformers_dinov2", "relpos_class"]
)
def test_values_of_other_families_are_those_of_their_streams(name: str) -> None:
    """The dense contribution vectors, from what the stream proof found to be the model's own."""
    if name not in zoo.ALL:
        pytest.skip("its library is not installed")
    model = visattn.load_model(module_of(name), image_size=zoo.size_of(name))
    last = model.adapter.stream().blocks[-1]
    record = visattn.capture(model, image_of(name))
    op, chain = record[last.operations[0]], record.chain()
    scale = 1.0 if last.scale is None else attrgetter(last.scale)(model.module).detach()
    weight = (op.projection.T * scale).double()
    value = op.value[1].double().transpose(0, 1).flatten(1)
    f = right.written(value, weight.T, op.shape[1])
    matrix = right.norms(op.weights()[1].double(), f)
    wanted = (steps_oracle.start(chain) @ matrix)[chain.layout.places]
    agree(found(name, "value_norm"), wanted)


def third_channel(outputs: torch.Tensor) -> torch.Tensor:
    return outputs[:, 3]


@cache
def trained_oracle(model: Model) -> tuple[torch.Tensor, right.Path, right.Tokens]:
    image = zoo.images(1, (140, 196))
    points = right.Path(model.module, image[0], 2, third_channel)
    return image, points, right.Tokens(model.module, image[0])


@pytest.mark.parametrize("method", ALL)
def test_trained_dinov2_agrees_with_the_dense_oracle(method: str, dinov2: Model) -> None:
    image, points, tokens = trained_oracle(dinov2)
    target = None if method == "value_norm" else third_channel
    steps = {"steps": 2} if method in PATHS else {}
    (given,) = visattn.explain(dinov2, image, method=method, target=target, **steps)
    if method in ("value_norm", "tokentm"):
        wanted = getattr(right, method)("class", points.points[-1], tokens)
    else:
        inputs = (points, tokens) if method == "btt" else (points,)
        wanted = getattr(right, method)("class", *inputs)
    agree(torch.from_numpy(given.grid.copy()).double().flatten(), wanted[1:])


def test_wrong_sums_of_values_are_told_apart() -> None:
    """Norms of sums are not sums of norms, and LayerScale and value bias belong inside."""
    name = "headless"
    dense, tokens = dense_of(name), tokens_of(name)
    given = found(name, "value_norm")
    attn, layer = dense.attn[-1], tokens.layers[-1]
    apart = (attn[:, 0, :] * layer.written.norm(dim=-1)).sum(dim=0)
    differ(apart[1:], given)
    last = module_of(name).blocks[-1]
    unscaled = layer.written / last.ls1.gamma.double()
    with torch.no_grad():
        last.ls1.gamma.mul_(torch.linspace(0.5, 2, 32))
        scaled = found(name, "value_norm")
        last.ls1.gamma.div_(torch.linspace(0.5, 2, 32))
    differ(scaled, given)
    differ(right.norms(attn, unscaled)[0, 1:] * given.max(), given)


def test_wrong_paths_and_heads_are_told_apart() -> None:
    name = "class"
    points = path_of(name)
    given = {method: found(name, method, steps=STEPS) for method in PATHS}
    early = sum(point.gradient[-1].clamp(min=0).mean(0)[0] for point in points.points) / STEPS
    feedback = points.feedback(name)
    differ((right.bth(name, points) / feedback * early).nan_to_num()[1:], given["bth"])
    without_ends = right.Path(module_of(name), image_of(name)[1], 4, top_output)
    del without_ends.points[0]  # from a = 1/3, as 1/K .. 1 would be
    differ(right.bth(name, without_ends)[1:], given["bth"])
    differ(right.tam(name, without_ends)[1:], given["tam"])
    dense = points.points[-1]
    uniform = [attn.mean(0) for attn in dense.attn]
    differ((right.perceived(name, dense, uniform, 0) * feedback)[1:], given["bth"])
    signed = []
    for attn, gradient in zip(dense.attn, dense.gradient, strict=True):
        mean = torch.stack([(a.T @ g).mean() for a, g in zip(attn, gradient, strict=True)])
        signed.append(torch.einsum("h,hij->ij", mean / mean.sum(), attn))
    differ((right.perceived(name, dense, signed, 0) * feedback)[1:], given["bth"])
    differ(given["tam"], (right.perceived(name, dense, uniform, 0) * feedback)[1:])


def test_wrong_pairings_of_values_and_gradients_are_told_apart() -> None:
    name = "class"
    points, tokens = path_of(name), tokens_of(name)
    given = found(name, "tokentm")
    back = copy.copy(points.points[-1])
    back.gradient = back.gradient[::-1]
    differ(right.tokentm(name, back, tokens)[1:], given)
    differ(found(name, "tokentm", variant="mean"), given)
    inward = copy.deepcopy(tokens)
    for layer in inward.layers:
        layer.before = torch.nn.functional.layer_norm(layer.before, layer.before.shape[-1:])
    differ(right.btt(name, points, inward)[1:], found(name, "btt", steps=STEPS))
    differ(right.tokentm(name, points.points[-1], inward)[1:], given)


def test_a_chain_of_norms_keeps_the_sum_one() -> None:
    for residual in (False, True):
        row = found("mean", "value_norm", chain=True, residual=residual)
        assert abs(float(row.sum()) - 1) < 1e-5
    differ(found("mean", "value_norm", chain=True, residual=True), row * 0 + 1 / len(row))


def test_layers_and_queries_of_value_norm() -> None:
    dense, tokens = dense_of("registers"), tokens_of("registers")
    matrices = [
        right.norms(attn, layer.written)
        for attn, layer in zip(dense.attn, tokens.layers, strict=True)
    ]
    agree(found("registers", "value_norm", layers=[0, 2]), (matrices[0] + matrices[2])[0, 5:] / 2)
    agree(found("registers", "value_norm", query=(1, 3)), matrices[-1][5 + 8, 5:])
    chained = oracle.row_normalised(matrices[1]) / 2 + oracle.identity(matrices[1]) / 2
    agree(found("registers", "value_norm", chain=True, layers=1), chained[0, 5:])


def test_a_query_starts_the_walk_and_reads_its_own_feedback() -> None:
    points = path_of("latent_pool")
    dense, place = points.points[-1], 8
    mean = sum(point.gradient[-2] for point in points.points) / STEPS
    feedback = mean.clamp(min=0).mean(0)[place]
    first, second, last = (attn.mean(0) for attn in dense.attn[:3])
    one = oracle.identity(first)
    wanted = last[place] @ (one + second) @ (one + first) * feedback
    agree(found("latent_pool", "tam", steps=STEPS, query=(1, 3)), wanted)
    assert found("latent_pool", "tokentm", query=(1, 3)).any()


@pytest.mark.parametrize("method", ALL)
def test_permuting_heads_changes_nothing(method: str) -> None:
    swapped = copy.deepcopy(module_of("class"))
    with torch.no_grad():
        for block in swapped.blocks:
            for part in (block.attn.qkv.weight, block.attn.qkv.bias):
                view = part.view(3, 2, 16, -1)
                view.copy_(view.flip(1).clone())
            view = block.attn.proj.weight.view(32, 2, 16)
            view.copy_(view.flip(1).clone())
    steps = {"steps": STEPS} if method in PATHS else {}
    target = None if method == "value_norm" else top_output
    maps = visattn.explain(swapped, image_of("class"), method=method, target=target, **steps)
    other = torch.from_numpy(maps[1].grid.copy()).double().flatten()
    agree(other, found("class", method, **steps))


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_within_the_rounding_of_activations(
    method: str, dtype: torch.dtype
) -> None:
    steps = {"steps": STEPS} if method in PATHS else {}
    tolerance = 0.25 if dtype == torch.bfloat16 else 0.03
    agree(found("class", method, dtype, **steps), found("class", method, **steps), tolerance)


@pytest.mark.parametrize("name", ["class", "parallel"])
@pytest.mark.parametrize("method", PATHS)
def test_the_path_costs_what_is_declared(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = visattn.load_model(module_of(name), image_size=zoo.SIZE)
    made = create_method(method, steps=4, chunk=1)
    if made.refusal(model.adapter, Size(*zoo.SIZE)):
        assert (name, method) == ("parallel", "btt")
        return
    calls, told = [], []
    plain = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *a, **k: (calls.append("back"), plain(*a, **k))[1]
    )
    handle = model.module.register_forward_hook(lambda *_: calls.append("forward"))
    visattn.explain(
        model, image_of(name)[:1], method=method, target=0, steps=4, chunk=1,
        progress=lambda *report: told.append(report[1:]),
    )  # fmt: skip
    handle.remove()
    passes = made.passes(model.adapter, Size(*zoo.SIZE))
    assert (calls.count("forward"), calls.count("back")) == (passes.forward, passes.backward)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


REFUSED = [
    ("value_norm", "parallel", "not a pre-norm residual block"),
    ("value_norm", "post_norm", "not a pre-norm residual block"),
    ("value_norm", "swin", "a stream of tokens"),
    ("value_norm", "refined_pool", "no output projection"),
    ("btt", "refined_pool", "no output projection"),
    ("btt", "swin", "a stream of tokens"),
    ("tokentm", "parallel_scaling", "MLP beside its attention"),
    ("tokentm", "latent_pool", "start from a query"),
    ("bth", "crossvit", "attends in the last attention"),
    ("tam", "crossvit", "attends in the last attention"),
    ("tam", "xcit", "cross-covariance"),
]


@pytest.mark.parametrize(("method", "name", "words"), REFUSED)
def test_models_that_a_formula_says_nothing_about_are_refused(
    method: str, name: str, words: str
) -> None:
    model = visattn.load_model(module_of(name), image_size=zoo.size_of(name))
    reason = create_method(method).refusal(model.adapter, Size(*zoo.size_of(name)))
    assert reason is not None
    assert words in reason


def test_a_norm_or_a_gate_between_values_and_projection_is_refused_by_name() -> None:
    module = zoo.eva(scale_attn_inner=True, global_pool="token")
    for method in ("value_norm", "btt", "tokentm"):
        target = None if method == "value_norm" else 0
        with pytest.raises(UnsupportedMethodError, match=r"blocks\.\d\.attn has no output proj"):
            visattn.explain(module, image_of("class"), method=method, target=target)


def test_the_decoder_of_an_encoder_decoder_is_refused() -> None:
    if "transformers_detr" not in zoo.ALL:
        pytest.skip("its library is not installed")
    size = zoo.size_of("transformers_detr")
    model = visattn.load_model(module_of("transformers_detr"), image_size=size)
    for method in ("bth", "tam"):
        reason = create_method(method, query="object 2").refusal(model.adapter, Size(*size))
        assert reason is not None
        assert "cross-attention" in reason


def test_a_query_that_does_not_attend_is_refused() -> None:
    model = visattn.load_model(module_of("cait"), image_size=zoo.size_of("cait"))
    with pytest.raises(UnsupportedMethodError, match="query mean: only 0% of it attends"):
        visattn.explain(model, image_of("cait"), method="tam", target=0, query="mean", steps=2)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [("bth", {"steps": 1}, "steps=1"), ("tam", {"chunk": 0}, "chunk=0"),
     ("btt", {"start_layer": 3}, "start_layer=3"), ("tokentm", {"variant": "head"}, "variant"),
     ("tokentm", {"start_layer": 3}, "start_layer=3"), ("value_norm", {"layers": 3}, "layers=3"),
     ("bth", {"backward": "plane"}, "backward")],
)  # fmt: skip
def test_options_out_of_range_are_refused(method: str, options: dict[str, Any], words: str) -> None:
    target = None if method == "value_norm" else 0
    with pytest.raises(UnsupportedMethodError, match=words):
        visattn.explain(
            module_of("class"), image_of("class"), method=method, target=target, **options
        )
