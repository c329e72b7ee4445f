"""A one-layer backbone as the exporter writes it comes back under timm's names."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from timm.models.vision_transformer import VisionTransformer

from visattn.models import dinov2_onnx

Backbone = dict[str, np.ndarray[Any, Any]]

PARTS = ("query", "key", "value")
WIDTH, HIDDEN = 4, 6


@pytest.fixture
def onnx_backbone(monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """Names and values of a one-layer Hugging Face backbone, as torch would hold them."""
    monkeypatch.setattr(dinov2_onnx, "DEPTH", 1)
    generator = np.random.default_rng(0)
    layer = "encoder.layer.0"
    shapes = {f"{layer}.attention.attention.{part}": (WIDTH, WIDTH) for part in PARTS}
    shapes |= {f"{layer}.attention.output.dense": (WIDTH, WIDTH)}
    shapes |= {f"{layer}.mlp.fc1": (HIDDEN, WIDTH), f"{layer}.mlp.fc2": (WIDTH, HIDDEN)}
    shapes |= {"embeddings.patch_embeddings.projection": (WIDTH, 3, 2, 2)}
    shapes |= dict.fromkeys((f"{layer}.norm1", f"{layer}.norm2", "layernorm"), (WIDTH,))
    values = {f"{name}.weight": generator.normal(size=shape) for name, shape in shapes.items()}
    values |= {f"{name}.bias": generator.normal(size=shape[0]) for name, shape in shapes.items()}
    values |= {f"{layer}.layer_scale{n}.lambda1": generator.normal(size=WIDTH) for n in (1, 2)}
    values |= {"embeddings.cls_token": generator.normal(size=(1, 1, WIDTH))}
    values |= {dinov2_onnx.CLASS_POSITION: generator.normal(size=(1, 1, WIDTH))}
    values |= {dinov2_onnx.PATCH_POSITIONS: generator.normal(size=(1, 9, WIDTH))}
    return {name: array.astype(np.float32) for name, array in values.items()}


def exported(backbone: Backbone) -> bytes:
    """Write the values as torch's exporter does: projections transposed, anonymous, shuffled."""
    tensors, nodes = [], []
    for count, (name, array) in enumerate(reversed(backbone.items())):
        module, _, kind = name.rpartition(".")
        if kind == "weight" and array.ndim == 2:
            anonymous = f"onnx::MatMul_{count}"
            tensors.append(numpy_helper.from_array(np.ascontiguousarray(array.T), anonymous))
            path = module.replace("layer.0", "layer#0").replace(".", "/").replace("#", ".")
            node = f"/backbone/{path}/MatMul"
            nodes.append(onnx.helper.make_node("MatMul", ["x", anonymous], [node], name=node))
        else:
            prefix = "" if name.startswith("onnx::") else "backbone."
            tensors.append(numpy_helper.from_array(array, prefix + name))
    nodes.append(onnx.helper.make_node("MatMul", ["q", "k"], ["s"], name="/backbone/a/MatMul"))
    graph = onnx.helper.make_graph(nodes, "backbone", [], [], tensors)
    return bytes(onnx.helper.make_model(graph).SerializeToString())


def test_onnx_tensors_come_back_under_the_names_of_timm(
    onnx_backbone: Backbone,
) -> None:
    state = dinov2_onnx.timm_state(exported(onnx_backbone))
    model = VisionTransformer(
        img_size=6, patch_size=2, embed_dim=WIDTH, depth=1, num_heads=1, mlp_ratio=HIDDEN / WIDTH,
        num_classes=0, init_values=1.0,
    )  # fmt: skip
    model.load_state_dict(state, strict=True)
    layer = "encoder.layer.0"

    def same(ours: str, theirs: str) -> None:
        np.testing.assert_array_equal(state[ours].numpy(), onnx_backbone[theirs], err_msg=ours)

    for index, part in enumerate(PARTS):
        rows = slice(index * WIDTH, (index + 1) * WIDTH)
        for kind in ("weight", "bias"):
            np.testing.assert_array_equal(
                state[f"blocks.0.attn.qkv.{kind}"][rows].numpy(),
                onnx_backbone[f"{layer}.attention.attention.{part}.{kind}"],
            )
    same("blocks.0.attn.proj.weight", f"{layer}.attention.output.dense.weight")
    same("blocks.0.mlp.fc1.weight", f"{layer}.mlp.fc1.weight")
    same("blocks.0.mlp.fc2.weight", f"{layer}.mlp.fc2.weight")
    same("blocks.0.mlp.fc2.bias", f"{layer}.mlp.fc2.bias")
    same("blocks.0.norm2.bias", f"{layer}.norm2.bias")
    same("blocks.0.ls1.gamma", f"{layer}.layer_scale1.lambda1")
    same("blocks.0.ls2.gamma", f"{layer}.layer_scale2.lambda1")
    same("norm.weight", "layernorm.weight")
    same("patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight")
    np.testing.assert_array_equal(
        state["pos_embed"][0, 0].numpy(), onnx_backbone[dinov2_onnx.CLASS_POSITION][0, 0]
    )
    np.testing.assert_array_equal(
        state["pos_embed"][0, 1:].numpy(), onnx_backbone[dinov2_onnx.PATCH_POSITIONS][0]
    )
