"""What stands in the file, and what is refused before one is written."""

from __future__ import annotations

import base64
import json
import re
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visattn
from tests import zoo
from visattn.errors import (
    CaptureError,
    ConfigError,
    ImageError,
    TargetError,
    UnsupportedMethodError,
    VisattnError,
)
from visattn.explorer import export, operation
from visattn.explorer.bias import Bias
from visattn.explorer.operation import embedded_operation
from visattn.explorer.packing import Arrays
from visattn.observation import AttentionOperation, capture

NOT_EXPLORED = {
    "edgenext": "its queries and keys are channels",
    "edgenext_strided_blocks": "its queries and keys are channels",
}


def model_of(name: str) -> visattn.Model:
    return visattn.load_model(zoo.build(name), image_size=zoo.size_of(name))


def unpacked(arrays: Arrays, reference: dict[str, Any]) -> np.ndarray:
    """Read an array as the page does."""
    planes = zlib.decompress(base64.b64decode(arrays.texts[reference["array"]]))
    width = np.dtype(reference["type"]).itemsize
    own = np.frombuffer(planes, np.uint8).reshape(width, -1).T
    return np.ascontiguousarray(own).view(reference["type"]).reshape(reference["shape"])


def data_of(path: Path) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.mark.parametrize("kind", ["float16", "float32", "uint8", "uint16", "int32"])
def test_arrays_come_back(kind: str) -> None:
    values = np.random.default_rng(0).normal(scale=40, size=(3, 5, 7)).astype(kind)
    arrays = Arrays()
    reference = arrays.add(values)
    assert reference["shape"] == [3, 5, 7]
    assert np.array_equal(unpacked(arrays, reference), values)


def test_equal_arrays_stand_in_the_page_once() -> None:
    arrays = Arrays()
    first, second = (arrays.add(np.arange(9, dtype="int32")) for _ in range(2))
    assert first == second
    assert arrays.add(np.arange(9, dtype="int32").reshape(3, 3)) != first
    assert len(arrays.texts) == 2


def test_indices_take_the_narrowest_type() -> None:
    arrays = Arrays()
    kinds = [arrays.indices(np.array([0, top]))["type"] for top in (255, 256, 65535, 65536)]
    assert kinds == ["uint8", "uint16", "uint16", "int32"]


def test_an_array_of_another_type_is_refused() -> None:
    with pytest.raises(CaptureError, match="float64"):
        Arrays().add(np.zeros(3))


@pytest.mark.parametrize("shape", [(9, 9), (2, 9, 9), (1, 2, 9, 9), (6, 1, 9, 9), (1, 1, 1, 9)])
def test_a_bias_that_broadcasts_comes_back(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    values[..., 0] = -np.inf
    four = values.reshape((1,) * (4 - len(shape)) + shape)
    assert np.array_equal(Bias.of(values, "float32").whole, four.astype(np.float32))


def test_a_relative_position_bias_is_a_table() -> None:
    """(2 * 14 - 1)^2 different columns instead of 196 x 196 x 12 numbers."""
    side, heads = 14, 12
    table = np.random.default_rng(0).normal(size=(heads, 2 * side - 1, 2 * side - 1))
    at = np.stack(np.mgrid[:side, :side], axis=-1).reshape(-1, 2)
    away = at[:, None] - at[None] + side - 1
    bias = Bias.of(table[:, away[..., 0], away[..., 1]], "float16")
    assert bias.values is not None
    assert bias.values.shape == ((2 * side - 1) ** 2, heads)
    assert bias.dense_bytes == 0
    arrays = Arrays()
    written = bias.embedded(arrays)
    values, places = (unpacked(arrays, written[name]) for name in ("values", "places"))
    read = values[places].T.reshape(1, heads, side**2, side**2)
    assert np.array_equal(read, bias.whole)


def test_windows_with_the_same_mask_share_it() -> None:
    kinds = np.random.default_rng(0).normal(size=(3, 2, 4, 4))
    which = np.array([0, 1, 0, 2, 1, 0])
    bias = Bias.of(kinds[which], "float32")
    assert len(bias.kinds) == 3
    assert bias.windows.tolist() == which.tolist()


def test_a_mask_below_the_range_of_float16_stays_finite() -> None:
    bias = Bias.of(np.array([[0.0, np.finfo(np.float32).min, -np.inf]]), "float16").whole
    assert bias.ravel().tolist() == [0.0, -65504.0, -np.inf]


def operation_of(scale: float = 1.0, tokens: int = 12, **changes: Any) -> AttentionOperation:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (scale * torch.randn(1, 2, tokens, 8, generator=generator) for _ in range(3))
    made = AttentionOperation("here", 0, v, v, query=q, key=k, scale=0.35)
    return replace(made, **changes)


def test_query_and_key_are_float16_where_that_is_exact_enough() -> None:
    arrays = Arrays()
    written = embedded_operation(operation_of(), arrays)
    assert written["query"]["type"] == "float16"
    assert np.abs(unpacked(arrays, written["query"])).max() > 1


def test_large_scores_are_float32() -> None:
    """Scores of hundreds: float16 would change the weights by more than is promised."""
    assert (
        embedded_operation(operation_of(12.0, tokens=200), Arrays())["query"]["type"] == "float32"
    )


def test_flat_attention_must_be_right_too() -> None:
    """Weights far below the tolerance: they are judged by the largest of their row."""
    made = operation_of(0.3, tokens=900)
    assert made.weights().max() < operation.TOLERANCE
    flat = replace(made, query=torch.zeros_like(made.query))  # even weights in the place of these
    assert operation._worst(made, flat) > 10
    assert operation._worst(made, made) == 0
    written = embedded_operation(made, Arrays())
    assert written["query"]["type"] == "float16"


def test_weights_stand_in_for_query_and_key_up_to_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = operation_of().weights()
    explicit = operation_of(query=None, key=None, explicit=weights)
    arrays = Arrays()
    written = embedded_operation(explicit, arrays)
    assert unpacked(arrays, written["weights"]) == pytest.approx(weights.numpy(), abs=1e-3)
    monkeypatch.setattr(operation, "DENSE_BYTES", 100)
    with pytest.raises(UnsupportedMethodError, match=r"here: query and key could not be read.*"):
        embedded_operation(explicit, Arrays())
    biased = operation_of(bias=torch.randn(1, 2, 12, 12))
    with pytest.raises(UnsupportedMethodError, match=r"its bias does not repeat.*--image-size"):
        embedded_operation(biased, Arrays())


def test_what_cannot_be_embedded_exactly_is_refused() -> None:
    """Keys that differ by less than the steps of float32 at their size."""
    made = operation_of(tokens=40)
    parts = {name: 3e4 * getattr(made, name).double() for name in ("query", "value", "output")}
    parts["key"] = 3e4 + 1e-4 * made.key.double()
    with pytest.raises(CaptureError, match="change its weights by more than"):
        embedded_operation(replace(made, **parts), Arrays())


@pytest.mark.parametrize("name", [*zoo.VITS, *zoo.FAMILIES])
def test_every_family_is_embedded_or_refused(tmp_path: Path, name: str) -> None:
    """Every layer of the walk stands in the file, and each operation was proven on its way in."""
    model, inputs = model_of(name), zoo.images(1, zoo.size_of(name))
    path = tmp_path / "page.html"
    if name in NOT_EXPLORED:
        with pytest.raises(UnsupportedMethodError, match=NOT_EXPLORED[name]):
            export(model, inputs, path)
        assert list(tmp_path.iterdir()) == []
        return
    data = data_of(export(model, inputs, path))
    chain = capture(model, inputs, gates=False).chain()
    layers = [step for step in data["steps"] if step["layer"] is not None]
    assert [step["layer"] for step in layers] == list(range(len(chain.layers)))
    assert data["pool"] == (chain.pool is not None)
    assert all(placed["operation"] for step in layers for placed in step["placements"])


def test_chosen_layers_alone_are_embedded(tmp_path: Path) -> None:
    model, inputs = model_of("class"), zoo.images(1)
    small = export(model, inputs, tmp_path / "small.html", layers=[-1, 0])
    data = data_of(small)
    assert data["embedded"] == [0, 2]
    held = [bool(step["placements"][0]["operation"]) for step in data["steps"]]
    assert held == [True, False, True]
    whole = export(model, inputs, tmp_path / "whole.html")
    assert small.stat().st_size < whole.stat().st_size


def test_the_size_is_linear_in_the_number_of_tokens(tmp_path: Path) -> None:
    sizes = []
    for side in (64, 128):
        torch.manual_seed(0)
        model = visattn.load_model("test_vit", weights=None, image_size=side, device="cpu")
        arrays = json.dumps(
            data_of(export(model, zoo.images(1, (side, side)), tmp_path / "p.html"))
        )
        assert arrays
        text = (tmp_path / "p.html").read_text(encoding="utf-8")
        sizes.append(sum(map(len, re.findall(r'type="text/plain" id="array-\d+">(.*?)<', text))))
    assert 3.3 < sizes[1] / sizes[0] < 4.4  # 4 times the patches


def test_a_page_of_vit_small_has_about_4_mb(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = visattn.load_model("vit_small_patch16_224", weights=None, device="cpu")
    path = export(model, zoo.images(1, (224, 224)), tmp_path / "page.html")
    assert 3.5e6 < path.stat().st_size < 5e6


def test_a_page_does_not_say_where_the_weights_lie(tmp_path: Path) -> None:
    told = replace(model_of("class"), source="checkpoint secret folder/weights.pth")
    path = export(told, zoo.images(1), tmp_path / "page.html")
    assert "secret folder" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "kind", "told"),
    [
        ({"out": "page.pdf"}, ConfigError, "page.pdf is no .html file"),
        ({"image": zoo.images(2)}, ImageError, "shows one image; 2 were given"),
        ({"image": "missing.jpg"}, ImageError, "missing.jpg"),
        ({"layers": [7]}, UnsupportedMethodError, r"layers=\[7\].*3 layers"),
        ({"target": 99}, TargetError, "Class 99 does not exist"),
    ],
)
def test_mistakes_leave_no_file(
    tmp_path: Path, arguments: dict[str, Any], kind: type[VisattnError], told: str
) -> None:
    given = {"image": zoo.images(1), "out": "page.html", **arguments}
    image, out = given.pop("image"), tmp_path / given.pop("out")
    with pytest.raises(kind, match=told):
        export(model_of("class"), image, out, **given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["resnet", "efficientnet"])
def test_a_model_without_attention_is_told_what_works(tmp_path: Path, name: str) -> None:
    model = visattn.load_model(zoo.build(name), image_size=(64, 64))
    with pytest.raises(CaptureError, match=r"cannot be explored.*gradcam") as raised:
        export(model, zoo.images(1, (64, 64)), tmp_path / "page.html")
    assert "rollout" not in str(raised.value).split("Methods that apply")[1]
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_classifier_says_so(tmp_path: Path) -> None:
    data = data_of(export(model_of("headless"), zoo.images(1), tmp_path / "page.html"))
    assert data["classes"] == []
    assert data["noClasses"] == "This model has no classifier."


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model, inputs = model_of("class"), zoo.images(1)
    before = model.run(inputs)
    export(model, inputs, tmp_path / "page.html")
    assert torch.equal(model.run(inputs), before)
