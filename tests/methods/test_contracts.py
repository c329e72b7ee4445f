"""Contracts that every method keeps on every model: a new file is tested by existing."""

from __future__ import annotations

from dataclasses import fields
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import visattn
from tests import zoo
from tests.methods.fast import FAST, HALF_ON
from tests.methods.live_bytes import LiveBytes
from visattn.errors import TargetError, UnsupportedMethodError
from visattn.explanation import Request, explain_batch
from visattn.images import Size
from visattn.methods import Method, create_method, get_method, list_methods
from visattn.models import Model
from visattn.models.inputs import prepare_all
from visattn.observation import operation
from visattn.targets import ContrastTarget

FEW = (
    "class", "registers", "latent_pool", "swin", "crossvit", "open_clip_coca", "transformers_detr",
    "efficientnet", "resnet", "cbam",
)  # fmt: skip
PAIRS = [
    (method, name)
    for name in zoo.ALL
    for method in list_methods()
    if name in FEW or method not in FAST
]
PLAIN_PAIRS = [(method, name) for method, name in PAIRS if name not in zoo.FAMILIES]
ATTENTION = [method for method in list_methods() if get_method(method).attention]
SPECIFIC = [method for method in list_methods() if get_method(method).class_specific]
AGNOSTIC = [method for method in list_methods() if not get_method(method).class_specific]


def having(field: str) -> list[str]:
    return [m for m in list_methods() if field in {f.name for f in fields(get_method(m))}]


SEEDED = having("seed")


@lru_cache(maxsize=16)
def model_of(name: str, dtype: torch.dtype = torch.float32) -> Model:
    return visattn.load_model(zoo.build(name).to(dtype), image_size=zoo.size_of(name))


@cache
def first_model_of(method: str) -> str:
    """Name the first small model that a method applies to, a transformer if there is one."""
    names = ("class", "efficientnet", *zoo.ALL)
    return next(name for name in names if applies(method, model_of(name)))


def target_of(method: str) -> Any:
    if isinstance(fast(method).explains(None), ContrastTarget):
        return 0
    return top_output if get_method(method).class_specific else None


def top_output(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.flatten(1).amax(dim=1)


def applies(method: str, model: Model) -> bool:
    assert model.input_size is not None
    return fast(method).refusal(model.adapter, model.input_size) is None


def fast(method: str) -> Method:
    return create_method(method, **FAST.get(method, {}))


def maps_of(
    method: str, model: Model, inputs: torch.Tensor, **options: Any
) -> list[visattn.SaliencyMap]:
    given = {**FAST.get(method, {}), **options}
    return visattn.explain(model, inputs, method=method, target=target_of(method), **given)


Answer = list[visattn.SaliencyMap] | visattn.VisattnError


@lru_cache(maxsize=4)
def answers(name: str, dtype: torch.dtype, images: tuple[int, ...]) -> dict[str, Answer]:
    """Return what all methods say of some images of a batch, from as few passes as possible."""
    model, methods = model_of(name, dtype), [m for m, asked in PAIRS if asked == name]
    inputs = zoo.images(3, zoo.size_of(name)).to(dtype)[list(images)]
    requests = [Request(m, target_of(m), FAST.get(m, {})) for m in methods]
    per_image = explain_batch(model, prepare_all(model, inputs), requests)
    per_method = [list(found) for found in zip(*per_image, strict=True)]
    failed = [next((e for e in found if isinstance(e, Exception)), None) for found in per_method]
    return {
        method: found if error is None else error
        for method, found, error in zip(methods, per_method, failed, strict=True)
    }


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_a_map_is_finite_and_lies_on_its_grid_or_is_refused(method: str, name: str) -> None:
    model, size = model_of(name), zoo.size_of(name)
    found = answers(name, torch.float32, (0, 1))[method]
    if isinstance(found, TargetError):  # classes at every position or object are none of the image
        assert isinstance(fast(method).explains(None), ContrastTarget)
        assert model.run(zoo.images(1, size)).ndim > 2
        return
    if isinstance(found, visattn.VisattnError):
        assert isinstance(found, UnsupportedMethodError)
        assert method in str(found)
        if "does not apply" not in str(found):  # what only a pass can tell names the operation
            names = [each.name for each in visattn.capture(model, zoo.images(1, size))]
            assert any(each in str(found) for each in names)
        return
    for one in found:
        assert one.grid.ndim == 2
        assert np.isfinite(one.grid).all()
        assert one.on_input().shape == one.on_image().shape == size
        assert np.isfinite(one.on_image()).all()
        assert one.signed or (one.grid >= 0).all()
        assert (one.target is not None) == get_method(method).class_specific


@pytest.mark.parametrize(("method", "name"), PLAIN_PAIRS)
def test_the_batch_does_not_matter(method: str, name: str) -> None:
    """In float64, where a difference is a leak and not the rounding of another kernel."""
    together = answers(name, torch.float64, (0, 1, 2))[method]
    if isinstance(together, visattn.VisattnError):
        pytest.skip("refused by name; see the contract above")
    for index, found in enumerate(together):
        alone = answers(name, torch.float64, (index,))[method]
        assert not isinstance(alone, visattn.VisattnError)
        scale = np.abs(alone[0].grid).max()
        np.testing.assert_allclose(found.grid, alone[0].grid, atol=1e-6 * scale, rtol=0)


@pytest.mark.parametrize("method", list_methods())
def test_a_second_run_is_identical(method: str) -> None:
    name = first_model_of(method)
    inputs = zoo.images(size=zoo.size_of(name))
    first, second = (maps_of(method, model_of(name), inputs) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert (one.grid == two.grid).all()


@pytest.mark.parametrize("method", SEEDED)
def test_a_seed_decides_and_is_recorded(method: str) -> None:
    name, grids = first_model_of(method), []
    inputs = zoo.images(1, zoo.size_of(name))
    for seed in (0, 0, 1):
        (found,) = maps_of(method, model_of(name), inputs, seed=seed)
        assert found.provenance["options"]["seed"] == seed
        grids.append(found.grid)
    assert (grids[0] == grids[1]).all()
    assert (grids[0] != grids[2]).any()


@pytest.mark.parametrize("method", AGNOSTIC)
@pytest.mark.parametrize("target", [0, "top2", lambda outputs: outputs[:, 0]])
def test_class_agnostic_methods_refuse_a_target(method: str, target: Any) -> None:
    with pytest.raises(UnsupportedMethodError, match=r"class-agnostic.*gae"):
        visattn.explain(model_of("class"), zoo.images(), method=method, target=target)


@pytest.mark.parametrize("method", SPECIFIC)
@pytest.mark.parametrize("trained", ["lite0", "dinov2"])
def test_class_specific_maps_differ_between_classes(
    method: str, trained: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(trained)
    if not applies(method, model) or (trained == "dinov2" and method in FAST):
        pytest.skip("refused by name, or asked of the smaller model")
    cat, cup = two_objects()
    targets: list[Any] = [285, 967]
    if trained == "dinov2":
        targets = [visattn.SimilarityTarget(p, name=n) for p, n in ((cat, "cat"), (cup, "cup"))]
    photo = np.hstack([part[:300, :225] for part in (cat, cup)])
    try:
        one, two = (
            visattn.explain(model, photo, method=method, target=target, **FAST.get(method, {}))[0]
            for target in targets
        )
    except TargetError:
        pytest.skip("explains classes, which the model does not have")
    assert one.target is not None
    assert two.target is not None
    assert one.target.label != two.target.label
    assert np.corrcoef(one.grid.ravel(), two.grid.ravel())[0, 1] < 0.99


def two_objects() -> tuple[np.ndarray, np.ndarray]:
    from skimage import data

    return data.chelsea(), data.coffee()


@pytest.mark.parametrize("method", list_methods())
def test_every_option_has_a_value_and_unknown_ones_suggest(method: str) -> None:
    kind = get_method(method)
    assert kind.__doc__
    assert kind.paper or method in ("random", "center", "edges")
    options = kind().options()
    if options:
        name = next(iter(options))
        with pytest.raises(UnsupportedMethodError, match=f"Did you mean '{name}'"):
            kind.create(method, {f"{name}x": 1})
    else:
        with pytest.raises(UnsupportedMethodError, match="no options"):
            kind.create(method, {"layer": 1})


@pytest.mark.parametrize("method", having("heads"))
def test_equal_heads_give_equal_fusions(method: str) -> None:
    """With identical heads mean, max, min and any single head are the same."""
    module = zoo.build("class")
    with torch.no_grad():
        for block in module.blocks:
            for part in (block.attn.qkv.weight, block.attn.qkv.bias):
                view = part.view(3, 2, 16, -1)
                view[:, 1] = view[:, 0]
            view = block.attn.proj.weight.view(32, 2, 16)
            view[:, 1] = view[:, 0]
    model, inputs = visattn.load_model(module), zoo.images(1)
    grids = [
        maps_of(method, model, inputs, heads=heads)[0].grid
        for heads in ("mean", "max", "min", 0, [1], [0, 1])
    ]
    for grid in grids[1:]:
        np.testing.assert_allclose(grid, grids[0], atol=1e-5 * np.abs(grids[0]).max())


@pytest.mark.parametrize("method", ATTENTION)
def test_permuting_heads_changes_nothing(method: str) -> None:
    module, swapped = zoo.build("class").double(), zoo.build("class").double()
    with torch.no_grad():
        for block in swapped.blocks:
            for part in (block.attn.qkv.weight, block.attn.qkv.bias):
                view = part.view(3, 2, 16, -1)
                view.copy_(view.flip(1).clone())
            view = block.attn.proj.weight.view(32, 2, 16)
            view.copy_(view.flip(1).clone())
    models = [visattn.load_model(each) for each in (module, swapped)]
    if not applies(method, models[0]):
        pytest.skip("refused by name; see the contract above")
    one, two = (maps_of(method, model, zoo.images(1).double()) for model in models)
    np.testing.assert_allclose(one[0].grid, two[0].grid, atol=1e-6 * np.abs(one[0].grid).max())


@pytest.mark.parametrize("heads", ["mean", "max", "min"])
def test_rollout_rows_sum_to_one(heads: str) -> None:
    """All of a model without prefix tokens lies on the grid."""
    for options in ({}, {"discard_ratio": 0.5}, {"residual": 0.2}, {"outliers": "mask"}):
        maps = visattn.explain(
            model_of("mean"), zoo.images(), method="rollout", heads=heads, **options
        )
        assert all(found.grid.sum() == pytest.approx(1, abs=1e-5) for found in maps)
    if heads == "mean":
        for found in maps_of("grad_rollout", model_of("mean"), zoo.images()):
            assert found.grid.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", [m for m in list_methods() if m not in {*FAST, *SEEDED}])
def test_half_precision_accumulates_in_float32(method: str, dtype: torch.dtype) -> None:
    """The grid stays within the rounding of the model's own activations.

    On a model on which the method's sums do not cancel. Noise is seeded by the rounded image.
    """
    name = HALF_ON.get(method) or first_model_of(method)
    inputs = zoo.images(1, zoo.size_of(name))
    right = maps_of(method, model_of(name), inputs)[0].grid
    found = maps_of(method, model_of(name, dtype), inputs.to(dtype))[0].grid
    tolerance = 0.15 if dtype == torch.bfloat16 else 0.02
    assert np.abs(found - right).max() < tolerance * np.abs(right).max()


class Counter:
    """Counts, per image, how often a module runs and how often its output is differentiated."""

    def __init__(self, module: nn.Module) -> None:
        self.forward = self.backward = 0
        self.handle = module.register_forward_hook(self._seen)

    def _seen(self, _: nn.Module, __: Any, output: torch.Tensor) -> None:
        self.forward += len(output)
        if output.requires_grad:
            output.register_hook(self._differentiated)

    def _differentiated(self, gradient: torch.Tensor) -> None:
        self.backward += len(gradient)


@pytest.mark.parametrize("method", list_methods())
@pytest.mark.parametrize("wanted", ["class", "latent_pool", "efficientnet", ""])
def test_passes_are_as_declared(method: str, wanted: str) -> None:
    """The driver's own pass included; what images of a batch share may cost less than declared."""
    name = wanted or first_model_of(method)
    model, size = model_of(name), zoo.size_of(name)
    if not applies(method, model) or (not wanted and name in ("class", "efficientnet")):
        pytest.skip("refused by name, or counted on another model")
    declared = fast(method).passes(model.adapter, Size(*size))
    for batch in (1, 2):
        count = Counter(model.module)
        try:
            maps_of(method, model, zoo.images(batch, size))
        finally:
            count.handle.remove()
        limit = (batch * declared.forward, batch * declared.backward)
        if batch > 1 or declared.at_most:
            assert count.forward <= limit[0]
            assert count.backward <= limit[1]
        else:
            assert (count.forward, count.backward) == limit


@pytest.mark.parametrize("method", [m for m in list_methods() if "N^2" not in get_method(m).memory])
def test_memory_grows_with_the_number_of_tokens(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four times the tokens, about four times the bytes; a dense matrix would take sixteen times.

    What is measured is the method itself behind the pass of the driver, passes that it runs
    included; attention is fused, so that these are linear too. Methods that declare N^2 are exempt.
    """
    monkeypatch.setattr(operation, "BLOCK_BYTES", 2**15)
    kind, peaks = get_method(method), []
    whole = kind.__call__

    def metered(*args: Any) -> Any:
        with LiveBytes() as meter:
            found = whole(*args)
        peaks.append(meter.peak)
        return found

    monkeypatch.setattr(kind, "__call__", metered)
    chunk = {"chunk": 4} if method in having("chunk") else {}
    for side in (64, 128):
        maps_of(method, scaled(method, side), zoo.images(1, (side, side)), **chunk)
    small, large = peaks
    assert large <= 1.3 * 4 * small


def scaled(method: str, side: int) -> Model:
    """Return a transformer with side^2 / 16 tokens, or a network for a method that needs one."""
    vit = visattn.load_model(zoo.vit(img_size=(side, side), patch_size=4).eval())
    if applies(method, vit):
        return vit
    name = first_model_of(method)
    return visattn.load_model(zoo.build(name), image_size=(side, side))


@pytest.mark.parametrize("side", [16, 32])
def test_the_meter_sees_a_dense_matrix(side: int) -> None:
    with LiveBytes() as meter:
        tokens = torch.zeros(side, 8)
        scores = tokens @ tokens.T
        del scores
        assert meter.live == side * 8 * 4
    assert meter.peak == side * 8 * 4 + side * side * 4


def test_gradcam_behind_the_last_block_is_refused_with_the_right_layer() -> None:
    with pytest.raises(UnsupportedMethodError, match=r"exactly zero.*blocks\.2\.norm1"):
        visattn.explain(
            zoo.build("class"), zoo.images(1), method="gradcam", target=0, layer="blocks.2.norm2"
        )


@pytest.mark.parametrize("query", ["cls", "mean", (1, 3), visattn.Pixel(55, 20)])
def test_a_query_replaces_the_readout(query: Any) -> None:
    module, inputs = zoo.build("registers"), zoo.images(1)
    (found,) = visattn.explain(module, inputs, method="attention", query=query)
    weights = visattn.capture(module, inputs)[-1].weights()[0].mean(dim=0)
    row = {"cls": weights[0], "mean": weights[5:].mean(dim=0)}.get(str(query), weights[5 + 5 + 3])
    np.testing.assert_allclose(found.grid.ravel(), row[5:].numpy(), rtol=1e-5)
    assert found.provenance["readout"] == f"query {query}"


@pytest.mark.parametrize("query", ["clss", (3, 0), visattn.Pixel(80, 10), 4])
def test_impossible_queries_are_refused(query: Any) -> None:
    with pytest.raises(UnsupportedMethodError, match="query="):
        visattn.explain(zoo.build("class"), zoo.images(1), method="rollout", query=query)
    with pytest.raises(UnsupportedMethodError, match="no such token"):
        visattn.explain(zoo.build("mean"), zoo.images(1), method="rollout", query="cls")


@pytest.mark.parametrize(
    ("layers", "right"), [(None, [0, 1, 2]), (-1, [2]), ([0, 2], [0, 2]), (slice(1, None), [1, 2])]
)
def test_layers_are_chosen_and_recorded(layers: Any, right: list[int]) -> None:
    (found,) = visattn.explain(zoo.build("class"), zoo.images(1), method="rollout", layers=layers)
    assert found.provenance["layers"] == right


@pytest.mark.parametrize("options", [{"layers": 3}, {"layers": []}, {"heads": 2}, {"heads": "avg"}])
def test_layers_and_heads_that_are_not_there(options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedMethodError, match=next(iter(options))):
        visattn.explain(zoo.build("class"), zoo.images(1), method="rollout", **options)


@pytest.mark.parametrize(
    ("name", "layer", "grid"),
    [
        ("swin", "layers.1.blocks.0", (8, 12)),
        ("swin_v2_cr", "stages.1.blocks.0", (8, 12)),
        ("efficientnet", "blocks.0", (24, 40)),
    ],
)
def test_a_named_layer_is_read_on_its_axes(name: str, layer: str, grid: tuple[int, int]) -> None:
    inputs = zoo.images(size=zoo.size_of(name))
    maps = visattn.explain(model_of(name), inputs, method="gradcam", target=0, layer=layer)
    assert [found.grid.shape for found in maps] == [grid, grid]


@pytest.mark.parametrize("layer", ["layers.0.blocks.0.attn", "layers.0.blocks.0.attn.qkv"])
def test_a_layer_whose_batch_is_made_of_windows_is_refused(layer: str) -> None:
    inputs = zoo.images(size=zoo.size_of("swin"))
    with pytest.raises(UnsupportedMethodError, match="not a feature map of a batch of 2"):
        visattn.explain(model_of("swin"), inputs, method="gradcam", target=0, layer=layer)


def test_maps_of_class_activation_and_of_walks_share_their_cells() -> None:
    model, inputs = model_of("swin_padded"), zoo.images(size=zoo.size_of("swin_padded"))
    (one, _) = visattn.explain(model, inputs, method="gradcam", target=0)
    chain = model.adapter.chain(Size(*zoo.size_of("swin_padded")))
    assert one.grid.shape == tuple(chain.end.grid)
    box = one.geometry.cell_box(0, 1)
    assert box.right - box.left == pytest.approx(chain.end.cell[1])


@pytest.mark.parametrize("method", ["attention", "rollout"])
def test_a_cell_as_query_is_one_of_the_map_and_the_same_as_its_pixel(method: str) -> None:
    model, inputs = model_of("swin"), zoo.images(size=zoo.size_of("swin"))
    layers = {"layers": [1, -1]} if method == "attention" else {}
    grids = [
        visattn.explain(model, inputs, method=method, query=query, **layers)[0].grid
        for query in ((9, 14), visattn.Pixel(14 * 4 + 2, 9 * 4 + 2), (8, 12), (0, 0))
    ]
    assert grids[0].shape == (16, 24)
    np.testing.assert_array_equal(grids[0], grids[1])
    if method == "rollout":  # 4 x 4 cells of the map are one token of the last stage
        np.testing.assert_array_equal(grids[0], grids[2])
    assert not np.allclose(grids[0], grids[3])
    with pytest.raises(UnsupportedMethodError, match="16 x 24"):
        visattn.explain(model, inputs, method=method, query=(16, 0), **layers)


@pytest.mark.parametrize("method", ["attention", "rollout", "gae"])
def test_relevance_on_padding_is_measured_and_told(method: str) -> None:
    model, inputs = model_of("tiny_vit_padded"), zoo.images(size=zoo.size_of("tiny_vit_padded"))
    layers = {"layers": 0} if method == "attention" else {}
    (found, _) = visattn.explain(model, inputs, method=method, target=target_of(method), **layers)
    share = found.provenance["padding_mass"]
    assert 0 <= share < 1
    assert (share > 0.1) == any("went to padding" in note for note in found.warnings)
    if method != "gae":  # where it multiplies by gradients, padding may gather nothing positive
        assert share > 0
        assert found.grid.sum() + share == pytest.approx(1, abs=1e-4)


def test_approximations_of_a_walk_are_told_on_the_map() -> None:
    (found, _) = visattn.explain(
        model_of("davit"), zoo.images(size=zoo.size_of("davit")), method="rollout"
    )
    assert any("channel" in note for note in found.warnings)
    (other, _) = visattn.explain(
        model_of("davit"), zoo.images(size=zoo.size_of("davit")), method="attention"
    )
    assert not any("channel" in note for note in other.warnings)


def test_the_share_of_the_readout_that_attends_is_told() -> None:
    name = "crossvit"
    (found, _) = visattn.explain(
        model_of(name), zoo.images(size=zoo.size_of(name)), method="attention"
    )
    assert found.provenance["attending"] == pytest.approx(0.5)
    assert any("only 50%" in note for note in found.warnings)


@pytest.mark.parametrize("name", ["crossvit", "cait", "class"])
def test_discarding_never_touches_the_class_token(name: str) -> None:
    """With everything but the largest patch-to-patch entry gone, the class row is as it was."""
    model, inputs = model_of(name), zoo.images(size=zoo.size_of(name))
    options = {"layers": -1} if name == "class" else {}
    kept, gone = (
        visattn.explain(model, inputs, method="rollout", discard_ratio=ratio, **options)[0].grid
        for ratio in (0.0, 0.99)
    )
    assert (gone > 0).sum() == (kept > 0).sum()
