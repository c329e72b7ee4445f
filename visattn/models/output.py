"""Outputs of any model as one tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from visattn.errors import ModelError

# What libraries call the result of a model, before anything that it also returns.
NAMES = ("logits", "image_embeds", "image_features", "pooler_output")


def as_scores_tensor(output: Any) -> torch.Tensor:
    """Return the logits or embedding inside a model's output, (batch, ...).

    A tensor is returned as it is; of a mapping or an object, the first there is of ``logits``,
    ``image_embeds``, ``image_features`` and ``pooler_output``, or else the first tensor; of a tuple
    or list, its first tensor. Raises `ModelError` when there is no tensor.
    """
    if isinstance(output, torch.Tensor):
        return output
    for name in NAMES:
        found = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(found, torch.Tensor):
            return found
    parts = output.values() if isinstance(output, Mapping) else output
    if isinstance(output, (Mapping, tuple, list)):
        for part in parts:
            if isinstance(part, torch.Tensor):
                return part
    raise ModelError(f"The model returned a {type(output).__name__} without a tensor of scores.")
