"""Methods that only see scores: masks, their scores, and running on some of the tokens."""

from __future__ import annotations

from itertools import islice, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import visattn
from tests import zoo
from tests.methods import black_box_oracle as oracle
from visattn.adapters import TokenLayout
from visattn.errors import CaptureError, UnsupportedMethodError
from visattn.images import Size
from visattn.methods import create_method
from visattn.methods.random_masks import drawn_masks, highest
from visattn.methods.seeding import generator
from visattn.methods.vit_cx import Enlarge, clustered
from visattn.models import Model
from visattn.models.inputs import prepare_all
from visattn.observation import AttentionRecord, record_pass

TIMM = ("class", "distilled", "registers", "mean", "latent_pool", "registers_mean_all")
DROPPING = (
    *TIMM, "class_but_mean", "latent_pool_registers", "refined_pool", "headless", "qk_norm",
    "parallel_scaling", "hybrid_stem", "hybrid_resnet", "hybrid_mobile_clip", "vitamin",
    "torchvision_vit", "open_clip_vit", "open_clip_vit_mean", "open_clip_coca", "transformers_vit",
    "transformers_vit_eager", "transformers_deit", "transformers_dinov2",
    "transformers_dinov2_registers", "transformers_clip", "transformers_clip_mean",
    "transformers_siglip", "transformers_siglip_mean",
)  # fmt: skip
CLASS = 1


def model_of(name: str, dtype: torch.dtype = torch.float32) -> Model:
    return visattn.load_model(zoo.build(name).to(dtype), image_size=zoo.size_of(name))


def images_of(name: str, batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return zoo.images(batch, zoo.size_of(name)).to(dtype)


def record_of(model: Model, inputs: torch.Tensor, **options: Any) -> AttentionRecord:
    prepared = prepare_all(model, inputs)
    return record_pass(model, prepared, target=output, attention=False, **options).record


def seeded(model: Model, inputs: torch.Tensor, index: int, seed: int = 0) -> torch.Generator:
    return generator(prepare_all(model, inputs)[index].image, seed)


def explained(model: Model, inputs: Any, method: str, **options: Any) -> list[Any]:
    given = {"target": CLASS, **options}
    return visattn.explain(model, inputs, method=method, **given)


def assert_agree(found: np.ndarray, right: torch.Tensor, tolerance: float = 1e-5) -> None:
    error = np.abs(found - right.detach().numpy()).max()
    assert error <= tolerance * float(right.abs().max())


@pytest.mark.parametrize("name", [name for name in DROPPING if name in zoo.ALL])
def test_dropping_nothing_changes_nothing_and_order_does_not_matter(name: str) -> None:
    """Tokens in another order give the same outputs: positions are part of them."""
    model = model_of(name, torch.float64)
    record = record_of(model, images_of(name, dtype=torch.float64))
    layout = model.adapter.layout(record.size)
    assert isinstance(layout, TokenLayout)
    places = torch.arange(layout.tokens).repeat(2, 1)
    with record.again.keeping(places):
        outputs = record.again.outputs(record.inputs)
    assert_agree(outputs.detach().numpy(), record.outputs, 1e-12)
    moved = places[:, layout.places].flip(1)
    places[:, layout.places] = moved
    with record.again.keeping(places):
        outputs = record.again.outputs(record.inputs)
    assert_agree(outputs.detach().numpy(), record.outputs, 1e-9)
    with record.again.keeping(places[:, : layout.tokens - 1]):
        assert not torch.allclose(record.again.outputs(record.inputs), record.outputs)
    assert torch.equal(record.again.outputs(record.inputs), record.outputs)


@pytest.mark.parametrize("name", TIMM)
def test_dropping_is_running_the_blocks_on_the_other_tokens(name: str) -> None:
    model, inputs = model_of(name), images_of(name)
    record = record_of(model, inputs)
    prefix = model.adapter.layout(record.size).places.start  # type: ignore[union-attr]
    kept = [[*range(prefix), *(prefix + i for i in some)] for some in ([0, 3, 7], [4, 8, 14])]
    with record.again.keeping(torch.tensor(kept)):
        outputs = record.again.outputs(inputs)
    for index, tokens in enumerate(kept):
        right = oracle.on_tokens(oracle.exact(model.module), inputs[index].double(), tokens)
        assert_agree(outputs[index].detach().numpy(), right[0])


def test_dropping_leaves_no_hook_behind_and_must_be_reached() -> None:
    model = model_of("class")
    record = record_of(model, images_of("class"))
    tokens = torch.arange(4).repeat(2, 1)

    def fail() -> None:
        with record.again.keeping(tokens):
            record.again.outputs(record.inputs)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with (
        pytest.raises(CaptureError, match=r"No pass reached the input of blocks\.0"),
        record.again.keeping(tokens),
    ):
        pass
    assert not model.module.blocks[0]._forward_pre_hooks


@pytest.mark.parametrize("name", ["eva_class", "beit_mean", "relpos_class"])
def test_dropping_is_refused_where_positions_are_not_in_the_tokens(name: str) -> None:
    record = record_of(model_of(name), images_of(name))
    with (
        pytest.raises(UnsupportedMethodError, match="not part of its tokens"),
        record.again.keeping(torch.zeros(2, 1, dtype=torch.long)),
    ):
        pass
    with pytest.raises(UnsupportedMethodError, match=r"rise does not apply.*drop=False"):
        explained(model_of(name), images_of(name), "rise", drop=True, masks=2)
    with pytest.raises(UnsupportedMethodError, match="rise does not apply"):
        explained(model_of("resnet"), images_of("resnet"), "rise", drop=True, masks=2)


def test_dropping_is_refused_where_the_outputs_are_tokens() -> None:
    model, inputs = model_of("transformers_mae"), images_of("transformers_mae", 1)
    with pytest.raises(UnsupportedMethodError, match=r"drop=True: .*\(1, 16, 32\)"):
        explained(model, inputs, "rise", target="embedding", drop=True, masks=2)


@pytest.mark.parametrize("name", ["class", "levit", "post_norm", "deepseek_align", "qwen3_merge"])
def test_there_are_no_more_masks_than_channels(name: str) -> None:
    model = model_of(name)
    site = model.adapter.cam_site()
    record = record_of(model, images_of(name, 1), sites=[site])
    passes = create_method("vit_cx").passes(model.adapter, record.size)
    assert passes.at_most
    assert passes.forward == 1 + 2 * record.activations[site].value.shape[-1]  # type: ignore[index]


class Linear(nn.Module):
    """y = sum_cells w * x, for a grey input."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs * self.weights).sum(dim=(1, 2, 3))[:, None]


def test_rise_of_all_masks_of_a_grid_is_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """``m_c = w_c + 1/2 sum_(c' != c) w_c'`` on a linear model of four cells."""
    weights = torch.tensor([[1.0, -2.0], [0.5, 4.0]])
    every = [torch.tensor(bits).float().reshape(2, 2) for bits in product((0, 1), repeat=4)]
    monkeypatch.setattr("visattn.methods.rise.drawn_masks", lambda *_: iter(every))
    model = visattn.load_model(Linear(weights), image_size=2)
    options: dict[str, Any] = {"target": lambda outputs: outputs[:, 0], "masks": 16, "chunk": 5}
    (found,) = explained(model, torch.ones(1, 3, 2, 2) / 3, "rise", center="none", **options)
    right = weights + (weights.sum() - weights) / 2
    assert_agree(found.grid, right, 1e-6)
    (centred,) = explained(model, torch.ones(1, 3, 2, 2) / 3, "rise", **options)
    assert_agree(centred.grid, right - weights.sum() / 2, 1e-6)
    assert centred.provenance["center"] == "mean"
    (divided,) = explained(model, torch.ones(1, 3, 2, 2) / 3, "rise", center="coverage", **options)
    assert_agree(divided.grid, right, 1e-6)


def test_masks_are_the_papers() -> None:
    size = Size(20, 33)
    found = torch.stack(list(islice(drawn_masks(size, 3, 0.4, torch.manual_seed(5)), 4)))
    right = oracle.rise_masks(4, 3, 0.4, size, torch.manual_seed(5))
    assert_agree(found.numpy(), right, 1e-6)


def test_every_pixel_is_visible_with_probability_p() -> None:
    masks = torch.stack(list(islice(drawn_masks(Size(30, 44), 4, 0.3, torch.manual_seed(0)), 4000)))
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert (masks.mean(dim=0) - 0.3).abs().max() < 0.04


@pytest.mark.parametrize("name", ["class", "efficientnet"])
@pytest.mark.parametrize("center", ["none", "mean", "coverage"])
def test_rise_is_the_loop_over_masks(name: str, center: str) -> None:
    model, inputs = model_of(name), images_of(name)
    maps = explained(model, inputs, "rise", masks=9, cells=3, p=0.6, center=center, chunk=4)
    for index, found in enumerate(maps):
        masks = oracle.rise_masks(9, 3, 0.6, zoo.size_of(name), seeded(model, inputs, index))
        score = oracle.probability(oracle.exact(model.module), CLASS)
        assert_agree(found.grid, oracle.rise(score, inputs[index].double(), masks, 0.6, center))
        assert found.signed == (center == "mean")
        assert found.provenance["center"] == center


@pytest.mark.parametrize("name", TIMM)
def test_rise_without_the_tokens_is_the_loop_over_kept_patches(name: str) -> None:
    model, inputs = model_of(name), images_of(name)
    maps = explained(model, inputs, "rise", masks=7, p=0.4, drop=True, chunk=3)
    exact = oracle.exact(model.module)
    layout = model.adapter.layout(Size(*zoo.SIZE))
    for index, found in enumerate(maps):
        random, total = seeded(model, inputs, index), torch.zeros(15, dtype=torch.float64)
        masks = drawn_masks(Size(*zoo.SIZE), 7, 0.4, random)
        for _ in range(7):
            kept = highest(next(masks), layout, 6, random).nonzero()[:, 0].tolist()  # type: ignore[arg-type]
            prefix = layout.places.start  # type: ignore[union-attr]
            tokens = [*range(prefix), *(prefix + i for i in kept)]
            outputs = oracle.on_tokens(exact, inputs[index].double(), tokens)
            total[kept] += outputs.detach().softmax(dim=1)[0, CLASS]
        assert_agree(found.grid.ravel(), total / (7 * 6 / 15))
        assert found.provenance["baseline"] == "tokens left out"


def test_the_highest_patches_are_kept_and_ties_are_broken_at_random() -> None:
    layout = TokenLayout(("class",), Size(3, 4), (5.0, 5.0))
    slope = torch.arange(15.0)[:, None] + torch.arange(20.0) / 100
    kept = highest(slope, layout, 5, torch.manual_seed(0))
    assert kept.tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1]
    flat = torch.stack([highest(torch.ones(15, 20), layout, 6, torch.default_generator)
                        for _ in range(1000)])  # fmt: skip
    assert (flat.sum(dim=1) == 6).all()
    assert (flat.mean(dim=0) - 0.5).abs().max() < 0.08


@pytest.mark.parametrize("options", [{"method": "rise", "masks": 10}, {"method": "vit_cx"},
                                     {"method": "rise", "masks": 10, "drop": True}])  # fmt: skip
def test_chunks_and_batches_do_not_matter_but_seeds_do(options: dict[str, Any]) -> None:
    model, inputs = model_of("registers"), images_of("registers", 3)
    whole = explained(model, inputs, **options, chunk=64)
    for index, found in enumerate(whole):
        (alone,) = explained(model, inputs[index : index + 1], **options, chunk=3)
        assert_agree(found.grid, torch.tensor(alone.grid))
    (other, *_) = explained(model, inputs, **options, seed=1)
    assert np.abs(other.grid - whole[0].grid).max() > 1e-3 * np.abs(whole[0].grid).max()


def test_a_score_without_a_natural_zero_is_centred() -> None:
    model, inputs = model_of("class"), images_of("class", 1)
    logit = lambda outputs: outputs[:, CLASS]  # noqa: E731
    shifted = lambda outputs: outputs[:, CLASS] + 50  # noqa: E731
    one, two, three = (
        explained(model, inputs, "rise", masks=20, **options)[0]
        for options in ({"score": "logit"}, {"target": logit}, {"target": shifted})
    )
    for found in (one, two, three):
        assert found.signed
        assert found.provenance["center"] == "mean"
        assert_agree(found.grid, torch.tensor(one.grid), 1e-4)
    assert three.provenance["mean_score"] == pytest.approx(one.provenance["mean_score"] + 50)


def test_few_masks_are_told() -> None:
    model, inputs = model_of("class"), images_of("class", 1)
    (few,) = explained(model, inputs, "rise", masks=2, p=0.1)
    assert any("never visible: raise masks" in note for note in few.warnings)
    (one,) = explained(model, inputs, "rise", masks=1)
    assert one.provenance["split_half_correlation"] is None
    halves = explained(model, inputs, "rise", masks=20)[0].provenance["split_half_correlation"]
    assert -1 <= halves <= 1


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("rise", {"masks": 0}), ("rise", {"cells": 0}), ("rise", {"p": 0.0}), ("rise", {"p": 1}),
        ("rise", {"center": "median"}), ("rise", {"score": "margin"}), ("rise", {"drop": 2}),
        ("rise", {"chunk": 0}), ("vit_cx", {"threshold": -0.1}), ("vit_cx", {"threshold": 1.5}),
        ("vit_cx", {"noise": -1.0}), ("vit_cx", {"chunk": 0}),
    ],
)  # fmt: skip
def test_impossible_options_are_refused(method: str, options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(UnsupportedMethodError, match=f"{name}={value!r}"):
        create_method(method, **options)


@pytest.mark.parametrize(
    ("threshold", "right"), [(0.0, 6), (0.02, 4), (0.1, 3), (0.3, 2), (1.0, 1)]
)
def test_six_masks_are_clustered_by_complete_linkage(threshold: float, right: int) -> None:
    """On a chain of neighbours single linkage would have merged all at 0.1."""
    angles = torch.tensor([0.9, 0.0, 0.1, 1.3, 0.5, 0.52], dtype=torch.float64)
    masks = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = clustered(masks @ masks.T, threshold)
    found = [np.flatnonzero(labels == label).tolist() for label in range(labels.max() + 1)]
    assert found == oracle.complete_linkage(masks, threshold)
    assert [cluster[0] for cluster in found] == sorted(cluster[0] for cluster in found)
    assert len(found) == right


def test_masks_on_the_grid_stand_for_masks_on_pixels() -> None:
    grid, size = Size(3, 5), Size(12, 35)
    planes = torch.randn(7, 15, dtype=torch.float64, generator=torch.manual_seed(0))
    planes[2] = 4.0
    enlarge = Enlarge(grid, (4.0, 7.0), size)
    right = functional.interpolate(
        planes.reshape(1, 7, 3, 5), tuple(size), mode="bilinear", align_corners=False
    )[0]
    assert_agree(enlarge(planes).numpy(), right, 1e-12)
    assert_agree(enlarge.products(planes).numpy(), right.flatten(1) @ right.flatten(1).T, 1e-12)
    scaled = enlarge(enlarge.scaled(planes, 2))
    varied = [index for index in range(7) if index != 2]
    assert_agree(scaled.numpy(), torch.stack([oracle.minmax(right[i]) for i in varied]), 1e-12)


def test_pixels_beyond_the_grid_continue_its_edge() -> None:
    enlarge = Enlarge(Size(2, 2), (4.0, 4.0), Size(11, 8))
    (plane,) = enlarge(torch.tensor([[0.0, 1.0, 2.0, 3.0]], dtype=torch.float64))
    assert torch.equal(plane[6:], plane[6:7].expand(5, -1))
    assert plane[0, 0] == 0
    assert plane[10, 7] == 3


VIT_CX = ("class", "distilled", "registers", "mean", "latent_pool", "eva_registers", "beit_class",
          "open_clip_vit", "transformers_dinov2_registers")  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in VIT_CX if name in zoo.ALL])
def test_vit_cx_is_the_loop_over_masks(name: str, dtype: torch.dtype) -> None:
    model, inputs = model_of(name, dtype), images_of(name, dtype=dtype)
    maps = explained(model, inputs, "vit_cx", target=output, chunk=7)
    for index, found in enumerate(maps):
        right = dense_vit_cx(model, inputs, index)
        assert found.signed == bool((right < 0).any())
        assert_agree(found.grid, right, 2e-5 if dtype == torch.float32 else 1e-6)


def output(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.flatten(1)[:, CLASS]


def dense_vit_cx(model: Model, inputs: torch.Tensor, index: int, loud: float = 0.1) -> torch.Tensor:
    """The map from the tokens that a hook of our own reads."""
    size = Size(*inputs.shape[2:])
    module, layout = oracle.exact(model.module), model.adapter.layout(size)
    read: list[torch.Tensor] = []
    part = module.get_submodule(model.adapter.cam_site().module)  # type: ignore[union-attr]
    image = inputs[index].double()
    with torch.no_grad():
        handle = part.register_forward_hook(lambda _, __, out: read.append(out))
        module(image[None])
        handle.remove()
        patches = read[0][0, layout.places].T  # type: ignore[union-attr]
        channels = patches.reshape(-1, *layout.grid)  # type: ignore[union-attr]
        masks = oracle.vit_cx_masks(channels, size, 0.1)
        random = seeded(model, inputs, index)
        noise = [torch.randn(image.shape, generator=random) for _ in masks]
        e = loud * torch.stack(noise).double()
        score = lambda given: output(as_outputs(module(given)))[0]  # noqa: E731
        return oracle.vit_cx(score, image, masks, e)


def as_outputs(value: Any) -> torch.Tensor:
    from visattn.models.output import as_scores_tensor

    return as_scores_tensor(value)


def test_vit_cx_with_other_noise_or_other_clusters_is_another_map() -> None:
    """So that the loop above can fail."""
    model, inputs = model_of("class"), images_of("class")
    right = dense_vit_cx(model, inputs, 0)
    silent = dense_vit_cx(model, inputs, 0, loud=0.0)
    (found, _) = explained(model, inputs, "vit_cx", target=output, noise=0.0)
    scale = right.abs().max()
    assert_agree(found.grid, silent)
    assert (right - silent).abs().max() > 0.01 * scale
    assert np.abs(found.grid - right.numpy()).max() > 0.01 * scale
    (coarse, _) = explained(model, inputs, "vit_cx", target=output, threshold=0.3)
    assert np.abs(coarse.grid - right.numpy()).max() > 0.01 * scale
    assert coarse.provenance["masks"] < explained(model, inputs, "vit_cx")[0].provenance["masks"]


def test_vit_cx_explains_probabilities_of_trained_tokens(dinov2: Model, cat: np.ndarray) -> None:
    cup = visattn.SimilarityTarget(np.zeros((50, 70, 3), np.uint8))
    (found,) = explained(dinov2, cat, "vit_cx", target=cup, threshold=0.4)
    assert found.signed == (found.grid < 0).any()
    assert found.provenance["layer"] == "output of blocks.11.norm1"
    assert found.grid.shape == (140, 196)
    assert 1 < found.provenance["masks"] < 100


def test_channels_that_are_constant_are_left_out() -> None:
    model, inputs = model_of("class"), images_of("class")
    norm = model.module.blocks[2].norm1
    with torch.no_grad():
        norm.weight[5:] = 0
    (some, _) = explained(model, inputs, "vit_cx")
    assert 1 <= some.provenance["masks"] <= 5
    assert np.isfinite(some.grid).all()
    with torch.no_grad():
        norm.weight[:] = 0
    (none, _) = explained(model, inputs, "vit_cx")
    assert none.provenance["masks"] == 0
    assert none.no_signal
    assert any("every channel of the tokens is constant" in note for note in none.warnings)


@pytest.mark.parametrize(
    ("name", "told"),
    [("resnet", "convnet family is a feature map; use rise or scorecam"),
     ("swin", "swin_transformer family is a feature map"),
     ("hiera_unrolled", "still unrolled")],
)  # fmt: skip
def test_vit_cx_needs_tokens(name: str, told: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=rf"vit_cx does not apply.*{told}"):
        explained(model_of(name), images_of(name), "vit_cx")


@pytest.mark.parametrize(
    "options",
    [{"method": "rise", "masks": 10}, {"method": "rise", "masks": 10, "drop": True},
     {"method": "vit_cx"}],
)  # fmt: skip
def test_progress_tells_the_passes_before_they_start(options: dict[str, Any]) -> None:
    model, inputs = model_of("class"), images_of("class")
    ran: list[int] = []
    handle = model.module.register_forward_pre_hook(lambda _, given: ran.append(len(given[0])))
    reports: list[tuple[str, int, int, int]] = []

    def report(work: str, done: int, total: int) -> None:
        reports.append((work, done, total, sum(ran) - 2))

    maps = explained(model, inputs, **options, chunk=4, progress=report)
    handle.remove()
    works, done, totals, passed = zip(*reports, strict=True)
    assert set(works) == {options["method"]}
    assert done == passed
    assert done[0] == 0
    assert done[-1] == totals[0]
    assert len(set(totals)) == 1
    bound = create_method(**{"name": options.pop("method"), **options})
    passes = bound.passes(model.adapter, Size(*zoo.SIZE))
    if passes.at_most:
        assert totals[0] == sum(2 * found.provenance["masks"] for found in maps)
        assert totals[0] <= 2 * (passes.forward - 1)
    else:
        assert totals[0] == 2 * (passes.forward - 1)
