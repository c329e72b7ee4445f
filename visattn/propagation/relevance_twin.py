"""A twin of a model: the same weights in storage, and attributes of its own."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

Change = Callable[[torch.Tensor], torch.Tensor]


def twin(module: nn.Module, change: Change = lambda tensor: tensor, *, alone: bool = False) -> Any:
    """Return a copy of a module with tensors of its own, ``change(tensor)``, without gradient.

    What the copy remembers of a pass in another precision or on another device (rotary tables,
    masks, flags) is not remembered by the model. Hooks are the model's own; a copy that is
    ``alone`` has only those that this package hung on it.
    """
    known: dict[int, Any] = {}
    for part in module.modules():
        for name, held in vars(part).items():
            if name.startswith("_forward") and isinstance(held, dict):
                known[id(held)] = _ours(held) if alone else held
                continue
            for leaf in pytree.tree_leaves(held):
                if isinstance(leaf, torch.Tensor) and id(leaf) not in known:
                    known[id(leaf)] = _changed(leaf, change)
    return copy.deepcopy(module, known)


def _changed(tensor: torch.Tensor, change: Change) -> torch.Tensor:
    changed = change(tensor.detach())
    is_weight = isinstance(tensor, nn.Parameter)
    return nn.Parameter(changed, requires_grad=False) if is_weight else changed


def _ours(hooks: dict[int, Any]) -> OrderedDict[int, Any]:
    """Return the hooks of this package, of a table of hooks or of flags of hooks."""
    return OrderedDict(
        (key, hook)
        for key, hook in hooks.items()
        if not callable(hook) or getattr(hook, "__module__", "").startswith("visattn.")
    )
