"""Contracts that every method keeps on every model: a new file is tested by existing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import visattn
from tests import zoo
from tests.methods.fast import FAST
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.methods import get_method, list_methods
from visattn.models import Model

PAIRS = [(method, name) for method in list_methods() for name in zoo.ALL]
PLAIN_PAIRS = [(method, name) for method, name in PAIRS if name not in zoo.FAMILIES]


def model_of(name: str, dtype: torch.dtype = torch.float32) -> Model:
    return visattn.load_model(zoo.build(name).to(dtype), image_size=zoo.size_of(name))


def target_of(method: str) -> Any:
    return top_output if get_method(method).class_specific else None


def top_output(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.flatten(1).amax(dim=1)


def applies(method: str, model: Model) -> bool:
    assert model.input_size is not None
    return get_method(method)().refusal(model.adapter, model.input_size) is None


def maps_of(method: str, model: Model, inputs: torch.Tensor) -> list[visattn.SaliencyMap]:
    return visattn.explain(
        model, inputs, method=method, target=target_of(method), **FAST.get(method, {})
    )


@pytest.mark.parametrize(("method", "name"), PAIRS)
def test_a_map_is_finite_and_lies_on_its_grid_or_is_refused(method: str, name: str) -> None:
    model, size = model_of(name), zoo.size_of(name)
    if not applies(method, model):
        with pytest.raises(UnsupportedMethodError, match=method):
            maps_of(method, model, zoo.images(size=size))
        return
    try:
        maps = maps_of(method, model, zoo.images(size=size))
    except UnsupportedMethodError as error:  # what only a pass can tell names the operation
        observed = visattn.capture(model, zoo.images(1, size))
        assert any(operation.name in str(error) for operation in observed)
        return
    for found in maps:
        assert found.grid.ndim == 2
        assert np.isfinite(found.grid).all()
        assert found.on_input().shape == found.on_image().shape == size
        assert np.isfinite(found.on_image()).all()
        assert found.signed or (found.grid >= 0).all()
        assert (found.target is not None) == get_method(method).class_specific


@pytest.mark.parametrize(("method", "name"), PLAIN_PAIRS)
def test_the_batch_does_not_matter(method: str, name: str) -> None:
    """In float64, where a difference is a leak and not the rounding of another kernel."""
    model, inputs = model_of(name, torch.float64), zoo.images(3).double()
    if not applies(method, model):
        pytest.skip("refused by name; see the contract above")
    together = maps_of(method, model, inputs)
    for index, found in enumerate(together):
        (alone,) = maps_of(method, model, inputs[index : index + 1])
        scale = np.abs(alone.grid).max()
        np.testing.assert_allclose(found.grid, alone.grid, atol=1e-6 * scale, rtol=0)


@pytest.mark.parametrize("method", list_methods())
def test_a_second_run_is_identical(method: str) -> None:
    model = model_of("mean")
    first, second = (maps_of(method, model, zoo.images()) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert (one.grid == two.grid).all()


@pytest.mark.parametrize("method", [m for m in list_methods() if not get_method(m).class_specific])
@pytest.mark.parametrize("target", [0, "top2", lambda outputs: outputs[:, 0]])
def test_class_agnostic_methods_refuse_a_target(method: str, target: Any) -> None:
    with pytest.raises(UnsupportedMethodError, match=r"class-agnostic.*gae"):
        visattn.explain(model_of("class"), zoo.images(), method=method, target=target)


@pytest.mark.parametrize("method", [m for m in list_methods() if get_method(m).class_specific])
def test_class_specific_maps_differ_between_classes(method: str, lite0: Model) -> None:
    photo = np.hstack([np.asarray(part)[:300, :225] for part in two_objects()])
    model = lite0 if applies(method, lite0) else model_of("class")
    options = FAST.get(method, {})
    one, two = (
        visattn.explain(model, photo, method=method, target=target, **options)[0]
        for target in ((285, 967) if model is lite0 else (0, 1))
    )
    assert one.target is not None
    assert two.target is not None
    assert one.target.index != two.target.index
    correlation = np.corrcoef(one.grid.ravel(), two.grid.ravel())[0, 1]
    assert correlation < 0.99


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


@pytest.mark.parametrize("method", ["attention", "rollout"])
def test_equal_heads_give_equal_fusions(method: str) -> None:
    """With identical heads mean, max, min and any single head are the same."""
    module = zoo.build("class")
    with torch.no_grad():
        for block in module.blocks:
            weight = block.attn.qkv.weight.view(3, 2, 16, 32)
            weight[:, 1] = weight[:, 0]
            block.attn.qkv.bias.view(3, 2, 16)[:, 1] = block.attn.qkv.bias.view(3, 2, 16)[:, 0]
    grids = [
        visattn.explain(module, zoo.images(1), method=method, heads=heads)[0].grid
        for heads in ("mean", "max", "min", 0, [1], [0, 1])
    ]
    for grid in grids[1:]:
        np.testing.assert_allclose(grid, grids[0], atol=1e-6)


@pytest.mark.parametrize("method", ["attention", "rollout", "gae"])
def test_permuting_heads_changes_nothing(method: str) -> None:
    module, swapped = zoo.build("class"), zoo.build("class")
    with torch.no_grad():
        for block in swapped.blocks:
            for part in (block.attn.qkv.weight, block.attn.qkv.bias):
                view = part.view(3, 2, 16, -1)
                view.copy_(view.flip(1).clone())
            view = block.attn.proj.weight.view(32, 2, 16)
            view.copy_(view.flip(1).clone())
    one, two = (maps_of(method, visattn.load_model(m), zoo.images(1)) for m in (module, swapped))
    np.testing.assert_allclose(one[0].grid, two[0].grid, atol=1e-5 * np.abs(one[0].grid).max())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["attention", "rollout", "gae", "gradcam"])
def test_half_precision_accumulates_in_float32(method: str, dtype: torch.dtype) -> None:
    """The grid stays within the rounding of the model's own activations."""
    right = maps_of(method, model_of("class"), zoo.images(1))[0].grid
    module = zoo.build("class").to(dtype)
    found = maps_of(method, visattn.load_model(module), zoo.images(1).to(dtype))[0].grid
    tolerance = 0.15 if dtype == torch.bfloat16 else 0.02
    assert np.abs(found - right).max() < tolerance * np.abs(right).max()


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
