"""Methods of attention times gradient against their dense float64 forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import visattn
from tests import zoo
from tests.methods import attention_gradients_oracle as naive
from tests.methods import oracle, steps_oracle
from tests.methods.test_oracles import assert_agree, dense_of, explained
from visattn.adapters import Chain, Stream
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.methods import create_method, get_method
from visattn.models import Model
from visattn.observation import AttentionRecord

PLAIN = ["class", "registers", "distilled", "mean", "parallel_scaling", "eva_registers"]
POOLED = ["latent_pool_registers", "refined_pool", "eva_latent_pool"]
OTHERS = ["class_but_mean", "registers_mean_all", "headless", "qk_norm", "beit_shared_bias"]
STREAMS = [*PLAIN, *POOLED, *OTHERS]
WALKED = [
    "swin_padded", "hiera", "levit", "crossvit", "cait", "pvt_v2", "maxvit", "davit",
    "halonet_pooled", "mvitv2_class", "open_clip_coca",
]  # fmt: skip


def third(outputs: torch.Tensor) -> torch.Tensor:
    return outputs[:, 2]


def grids(name: str, method: str, dtype: torch.dtype, **options: Any) -> list[torch.Tensor]:
    module = zoo.build(name).to(dtype)
    model = visattn.load_model(module, image_size=zoo.size_of(name))
    inputs = zoo.images(2, zoo.size_of(name)).to(dtype)
    maps = visattn.explain(model, inputs, method=method, target=third, **options)
    return [torch.from_numpy(found.grid.copy()).double().flatten() for found in maps]


def graph_of(name: str, index: int, **options: Any) -> naive.Graph:
    return naive.Graph(zoo.build(name), zoo.images(2)[index], **options)


def patches(name: str, row: torch.Tensor) -> torch.Tensor:
    return row[oracle.PREFIX[name] :]


@pytest.mark.parametrize("name", zoo.VITS)
def test_grad_rollout_is_the_dense_product(name: str) -> None:
    for index, grid in enumerate(explained(name, "grad_rollout", torch.float32)):
        row = naive.grad_rollout(name, dense_of(name, index))
        assert_agree(grid, patches(name, row))
        assert abs(float(row.sum()) - 1) < 1e-12


@pytest.mark.parametrize("name", ["registers", "mean", "parallel"])
@pytest.mark.parametrize(("first", "ratio"), [(1, 0.0), (0, 0.6), (2, 0.3)])
def test_grad_rollout_options(name: str, first: int, ratio: float) -> None:
    found = explained(name, "grad_rollout", torch.float64, start_layer=first, discard_ratio=ratio)
    right = naive.grad_rollout(name, dense_of(name, 1), first, ratio)
    assert_agree(found[1], patches(name, right), 3e-7)


def test_grad_rollout_pairs_layers_and_clamps_behind_the_head_mean() -> None:
    dense = dense_of("class", 0)
    right = naive.grad_rollout("class", dense)
    early = oracle.identity(dense.attn[0])
    for attn, gradient in zip(dense.attn, dense.gradient, strict=True):
        matrix = (attn * gradient).clamp(min=0).mean(0)
        early = oracle.row_normalised(oracle.identity(matrix) + matrix) @ early
    dense.gradient.reverse()
    for wrong in (naive.grad_rollout("class", dense), early[0]):
        assert differs(wrong[1:], right[1:])


def test_the_last_layer_alone_is_attention_times_gradient() -> None:
    dense = dense_of("registers", 0)
    right = (dense.attn[-1] * dense.gradient[-1]).mean(0).clamp(min=0)[0, 5:]
    found = explained("registers", "grad_rollout", torch.float32, start_layer=2)[0]
    assert_agree(found / found.sum(), right / right.sum())


def differs(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two maps tell their formulas apart, whatever their scale."""
    shares = [row / row.abs().sum() for row in (one, other)]
    return bool((shares[0] - shares[1]).abs().max() > 1e-3 * shares[1].abs().max())


@pytest.mark.parametrize("name", zoo.VITS)
@pytest.mark.parametrize("rows", ["all", "readout"])
def test_grad_sam_is_the_dense_mean(name: str, rows: str) -> None:
    for index, grid in enumerate(explained(name, "grad_sam", torch.float32, rows=rows)):
        assert_agree(grid, patches(name, naive.grad_sam(name, dense_of(name, index), rows)))


def test_grad_sam_reads_columns_or_one_row() -> None:
    dense = dense_of("class", 0)
    columns, row = (naive.grad_sam("class", dense, rows)[1:] for rows in ("all", "readout"))
    assert differs(columns, row)
    clamped_late = sum((a * g).mean(0).clamp(min=0).sum(0) for a, g in pairs(dense))
    assert isinstance(clamped_late, torch.Tensor)
    assert differs(clamped_late[1:], columns)


def pairs(dense: oracle.Dense) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(dense.attn, dense.gradient, strict=True))


@pytest.mark.parametrize("name", [*STREAMS, "parallel", "post_norm"])
def test_agcam_is_the_dense_sum(name: str) -> None:
    for index, grid in enumerate(grids(name, "agcam", torch.float32)):
        graph = graph_of(name, index)
        assert_agree(grid, patches(name, naive.agcam(name, graph, third(graph.outputs))))


@pytest.mark.parametrize("name", [n for n in [*PLAIN, *OTHERS] if n != "parallel_scaling"])
def test_agcam_as_published_detaches_every_attention(name: str) -> None:
    for index, grid in enumerate(grids(name, "agcam", torch.float32, gradient="published")):
        graph = graph_of(name, index, detach_attention=True)
        right = patches(name, naive.agcam(name, graph, third(graph.outputs)))
        assert_agree(grid, right)
        full = graph_of(name, index)
        assert differs(patches(name, naive.agcam(name, full, third(full.outputs))), right)


def test_agcam_squashes_scores_and_not_weights() -> None:
    graph = graph_of("class", 0)
    right = naive.agcam("class", graph, third(graph.outputs))
    graph.scores = graph.attn
    assert differs(naive.agcam("class", graph, third(graph.outputs))[1:], right[1:])


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("tokens", ["output", "input"])
def test_attcat_is_the_dense_sum(name: str, tokens: str) -> None:
    """In float64: the sum over channels cancels, see the test below."""
    for index, grid in enumerate(grids(name, "attcat", torch.float64, tokens=tokens)):
        graph = graph_of(name, index)
        right = patches(name, naive.attcat(graph, third(graph.outputs), tokens))
        assert_agree(grid, right, 1e-7)
        other = naive.attcat(graph, third(graph.outputs), {"output": "input"}.get(tokens, "output"))
        assert differs(patches(name, other), right)


@pytest.mark.parametrize("name", STREAMS)
def test_attcat_in_single_precision_is_as_exact_as_its_sums_allow(name: str) -> None:
    found = grids(name, "attcat", torch.float32)[0]
    graph = graph_of(name, 0)
    right = patches(name, naive.attcat(graph, third(graph.outputs), "output"))
    gradients = graph.gradients(third(graph.outputs), graph.after)
    products = zip(graph.attn, graph.after, gradients, strict=False)
    terms = sum(a.mean((0, 1)) * (h[0] * g).abs().sum(-1) for a, h, g in products)
    assert isinstance(terms, torch.Tensor)
    assert (found - right).abs().max() <= 1e-5 * patches(name, terms).max()


@pytest.mark.parametrize("name", STREAMS)
def test_legrad_is_the_dense_mean(name: str) -> None:
    for index, grid in enumerate(grids(name, "legrad", torch.float32)):
        graph = graph_of(name, index)
        layers = list(range(len(graph.after)))
        assert_agree(grid, patches(name, naive.legrad(name, graph, third, layers)))


CHOSEN: list[tuple[dict[str, Any], list[int]]] = [
    ({"layers": [-2, -1]}, [1, 2]),
    ({"start_layer": 2}, [2]),
]


@pytest.mark.parametrize("name", ["class", "latent_pool_registers"])
@pytest.mark.parametrize(("options", "layers"), CHOSEN)
def test_legrad_of_chosen_layers(name: str, options: dict[str, Any], layers: list[int]) -> None:
    found = grids(name, "legrad", torch.float64, **options)[1]
    right = naive.legrad(name, graph_of(name, 1), third, layers)
    assert_agree(found, patches(name, right), 1e-7)


def test_legrad_is_local_and_does_not_multiply_attention_in() -> None:
    graph = graph_of("class", 0)
    right = naive.legrad("class", graph, third, [0, 1, 2])[1:]
    final = graph.gradients(third(graph.outputs), graph.weights)
    local = [
        graph.gradients(third(naive.head_of("class", graph.module, tokens)), [weights])[0]
        for tokens, weights in zip(graph.after, graph.weights, strict=True)
    ]
    multiplied = [g * a for g, a in zip(local, graph.attn, strict=True)]
    late = [g.mean(0) for g in local]
    for wrong in (final, multiplied):
        assert differs(sum(g.clamp(min=0).mean((0, 1)) for g in wrong)[1:], right)
    assert differs(sum(g.clamp(min=0).mean(0) for g in late)[1:], right)


@pytest.mark.parametrize("name", ["mean", "latent_pool_registers", "eva_latent_pool"])
def test_the_head_of_a_stream_is_the_models_own(name: str) -> None:
    """The last local score of a model that averages all tokens, or pools them by attention."""
    module, inputs = zoo.build(name), zoo.images(2, zoo.size_of(name))
    model = visattn.load_model(module, image_size=zoo.size_of(name))
    stream = model.adapter.stream()
    assert isinstance(stream, Stream)
    assert stream.head is not None
    seen: list[torch.Tensor] = []
    module.blocks[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        torch.testing.assert_close(module(inputs), stream.head(seen[0]))


def record_of(name: str) -> tuple[AttentionRecord, Chain]:
    module, size = zoo.build(name).double(), zoo.size_of(name)
    model = visattn.load_model(module, image_size=size)
    record = visattn.capture(model, zoo.images(2, size).double(), gradients_of=top)
    return record, record.chain()


def top(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.flatten(1).amax(dim=1)


def found_of(record: AttentionRecord, method: str, **options: Any) -> torch.Tensor:
    return create_method(method, **options)(record, []).values.flatten(1)


@pytest.mark.parametrize("name", WALKED)
def test_walks_through_windows_and_stages_are_dense_products(name: str) -> None:
    record, chain = record_of(name)
    start = steps_oracle.start(chain)
    walked = found_of(record, "grad_rollout")
    columns, row = found_of(record, "grad_sam"), found_of(record, "grad_sam", rows="readout")
    for index in range(2):
        assert_agree(walked[index], naive.grad_rollout_walk(chain, record, index), 1e-9)
        right = naive.gathered_walk(chain, record, index, "grad_sam", None)
        assert_agree(columns[index], right, 1e-9)
        right = naive.gathered_walk(chain, record, index, "grad_sam", start)
        assert_agree(row[index] / row[index].sum(), right / right.sum(), 1e-9)


@pytest.mark.parametrize("name", [n for n in WALKED if n not in ("mvitv2_class", "cait")])
def test_agcam_of_windows_and_stages_is_the_dense_sum(name: str) -> None:
    record, chain = record_of(name)
    found, start = found_of(record, "agcam"), steps_oracle.start(chain)
    for index in range(2):
        right = naive.gathered_walk(chain, record, index, "agcam", start)
        assert_agree(found[index], right, 1e-9)


def test_relevance_on_padding_is_told() -> None:
    module, size = zoo.build("swin_padded"), zoo.size_of("swin_padded")
    with torch.no_grad():  # padded tokens are zeros: their values are the bias
        for name, weight in module.named_parameters():
            if name.endswith("qkv.bias"):
                weight.normal_()
    model = visattn.load_model(module, image_size=size)
    record = visattn.capture(model, zoo.images(2, size), gradients_of=top)
    for method in ("grad_rollout", "grad_sam", "agcam"):
        found = create_method(method)(record, [])
        assert all(0 < image["padding_mass"] < 1 for image in found.measured)


@pytest.mark.parametrize("method", ["grad_rollout", "grad_sam", "agcam", "attcat", "legrad"])
def test_trained_dinov2_agrees_with_the_dense_oracle(dinov2: Model, method: str) -> None:
    inputs = zoo.images(1, (140, 196))
    (found,) = visattn.explain(dinov2, inputs, method=method, target=third)
    right = DENSE[method](dinov2.module, inputs[0])[1:]
    tolerance = 1e-4 if method == "attcat" else 1e-5  # its sum over channels cancels
    assert found.grid.shape == (10, 14)
    assert_agree(torch.from_numpy(found.grid.copy()).double().flatten(), right, tolerance)


def of_graph(formula: Callable[[naive.Graph], torch.Tensor]) -> Any:
    return lambda module, image: formula(naive.Graph(module, image))


DENSE: dict[str, Any] = {
    "grad_rollout": lambda module, image: naive.grad_rollout(
        "class", oracle.Dense(module, image, third)
    ),
    "grad_sam": lambda module, image: naive.grad_sam(
        "class", oracle.Dense(module, image, third), "all"
    ),
    "agcam": of_graph(lambda graph: naive.agcam("class", graph, third(graph.outputs))),
    "attcat": of_graph(lambda graph: naive.attcat(graph, third(graph.outputs), "output")),
    "legrad": of_graph(lambda graph: naive.legrad("class", graph, third, list(range(12)))),
}


@pytest.mark.parametrize("method", ["grad_rollout", "grad_sam", "agcam", "attcat", "legrad"])
def test_rules_of_the_backward_pass_change_the_gradient_alone(method: str) -> None:
    plain = grids("registers", method, torch.float64)[0]
    found = grids("registers", method, torch.float64, backward="libra")[0]
    assert found.isfinite().all()
    assert differs(found, plain)
    if method != "legrad":
        return
    pooled = [
        grids("latent_pool", "legrad", torch.float64, backward=rules)[0]
        for rules in ("plain", "libra")
    ]
    assert differs(*pooled)


def refusal(method: str, name: str, **options: Any) -> str | None:
    adapter = visattn.load_model(zoo.build(name)).adapter
    return create_method(method, **options).refusal(adapter, Size(*zoo.size_of(name)))


def test_streams_that_do_not_exist_are_refused() -> None:
    for method in ("attcat", "legrad"):
        assert "not a pre-norm residual block" in str(refusal(method, "post_norm"))
        assert "the same from the first block to the last" in str(refusal(method, "swin"))
    assert "gradient='full'" in str(refusal("agcam", "swin", gradient="published"))
    assert "parallel branches" in str(refusal("agcam", "latent_pool", gradient="published"))
    assert "parallel branches" in str(refusal("agcam", "parallel_scaling", gradient="published"))
    assert refusal("agcam", "swin") is None


def test_scores_that_are_not_known_are_refused_by_name() -> None:
    with pytest.raises(
        UnsupportedMethodError, match=r"agcam needs the scores.*stages\.1\.blocks\.1\.attn only"
    ):
        grids("mvitv2_class", "agcam", torch.float32)


def test_a_mean_over_all_rows_needs_no_readout() -> None:
    assert refusal("grad_sam", "transformers_mae") is None
    assert refusal("grad_sam", "transformers_mae", rows="readout") is not None
    assert refusal("agcam", "transformers_mae") is not None


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("grad_sam", {"rows": "columns"}, "rows='columns'"),
        ("grad_sam", {"query": (0, 0)}, "rows='readout'"),
        ("agcam", {"gradient": "publish"}, "Did you mean 'published'"),
        ("attcat", {"tokens": "inputs"}, "Did you mean 'input'"),
        ("grad_rollout", {"discard_ratio": 1}, r"discard_ratio=1 is not a number in \[0, 1\)"),
        ("grad_rollout", {"outliers": "drop"}, "outliers='drop'"),
        *((m, {"backward": "lrp"}, "backward='lrp'") for m in DENSE),
    ],
)
def test_options_that_mean_nothing(method: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=words):
        create_method(method, **options)


def test_passes_are_declared() -> None:
    size, adapters = Size(*zoo.SIZE), {}
    for name in ("class", "latent_pool"):
        adapters[name] = visattn.load_model(zoo.build(name)).adapter
    legrad = get_method("legrad")()
    assert str(legrad.passes(adapters["class"], size)) == "at most 2 forward + 2 backward"
    assert str(legrad.passes(adapters["latent_pool"], size)) == "forward + backward"
    published = create_method("agcam", gradient="published")
    assert str(published.passes(adapters["class"], size)) == "2 forward + 2 backward"
