"""The DINOv2 backbone inside an ONNX graph, under timm's names.

The graph was exported from Hugging Face's Dinov2Model. Biases, norms and layer scales kept their
names. The exporter folded the transposes of the projections into new, anonymous tensors: these
are found through the MatMul nodes, and stand as (in, out) where torch has (out, in).
"""

from __future__ import annotations

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

DEPTH = 12
CLASS_POSITION = "onnx::Concat_1957"
PATCH_POSITIONS = "onnx::Reshape_1962"

NAMES = {
    "norm1": "norm1",
    "attn.proj": "attention.output.dense",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def timm_state(data: bytes) -> dict[str, Tensor]:
    """Return the backbone as a state dict of timm's ``vit_small_patch14_dinov2``, float32.

    Query, key and value projections are stacked in this order into ``qkv`` (3 * 384, 384);
    ``pos_embed`` (1, 1 + 37 * 37, 384) starts with the position of the CLS token.
    """
    named = _named(onnx.load_from_string(data).graph)
    state = {
        "cls_token": named["embeddings.cls_token"],
        "pos_embed": torch.cat([named[CLASS_POSITION], named[PATCH_POSITIONS]], dim=1),
        "norm.weight": named["layernorm.weight"],
        "norm.bias": named["layernorm.bias"],
    }
    for kind in ("weight", "bias"):
        state[f"patch_embed.proj.{kind}"] = named[f"embeddings.patch_embeddings.projection.{kind}"]
        for index in range(DEPTH):
            state |= _block(index, kind, named)
    for index in range(DEPTH):
        for scale in ("1", "2"):
            gamma = named[f"encoder.layer.{index}.layer_scale{scale}.lambda1"]
            state[f"blocks.{index}.ls{scale}.gamma"] = gamma
    return state


def _named(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """Return the backbone's tensors as in its state dict, without ``backbone.`` in front."""
    named = {
        tensor.name.removeprefix("backbone."): torch.tensor(numpy_helper.to_array(tensor))
        for tensor in graph.initializer
        if not tensor.name.startswith("decoder.")
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in named:
            module = node.name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            named[f"{module}.weight"] = named[node.input[1]].T
    return named


def _block(index: int, kind: str, named: dict[str, Tensor]) -> dict[str, Tensor]:
    layer, block = f"encoder.layer.{index}", f"blocks.{index}"
    state = {
        f"{block}.{ours}.{kind}": named[f"{layer}.{theirs}.{kind}"]
        for ours, theirs in NAMES.items()
    }
    parts = [
        named[f"{layer}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")
    ]
    return state | {f"{block}.attn.qkv.{kind}": torch.cat(parts)}
