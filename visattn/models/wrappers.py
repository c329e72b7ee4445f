"""Modules out of their wrappers: parallel and compiled ones are replaced by the original."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from visattn.errors import ModelError

WRAPPERS = ("DataParallel", "DistributedDataParallel", "OptimizedModule")
SHARDED = ("FullyShardedDataParallel",)


def unwrap(module: nn.Module) -> nn.Module:
    """Return the original of a module wrapped in DataParallel, DDP or torch.compile, however deep.

    A module that was compiled in place, or has wrapped or compiled parts, is returned as a shallow
    copy without them, which shares its weights; everything else as it is. Raises `ModelError` for
    modules whose operations cannot be observed (TorchScript, exported programs) and for sharded
    ones, whose weights are not all here.
    """
    while type(module).__name__ in WRAPPERS:
        module = _inner(module)
    for name, part in module.named_modules():
        _require_observable(name, part)
    return _plain(module)


def _inner(module: Any) -> nn.Module:
    original = getattr(module, "_orig_mod", None)
    inner: nn.Module = module.module if original is None else original
    return inner


def _plain(module: nn.Module) -> nn.Module:
    """Return a module without compiled or wrapped parts: itself where it has none."""
    while type(module).__name__ in WRAPPERS:
        module = _inner(module)
    parts = dict(module._modules)  # noqa: SLF001
    parts |= {name: _plain(part) for name, part in module.named_children()}
    same = all(parts[name] is part for name, part in module.named_children())
    if same and module._compiled_call_impl is None:  # noqa: SLF001
        return module
    plain = copy.copy(module)
    plain._modules = parts  # noqa: SLF001
    return plain


def _require_observable(name: str, part: nn.Module) -> None:
    kind, where = type(part).__name__, f"{name} is " if name else ""
    if isinstance(part, torch.jit.ScriptModule):
        raise ModelError(
            f"{where}{kind}: compiled TorchScript, whose operations cannot be observed; load the "
            "original nn.Module."
        )
    if kind in SHARDED:
        raise ModelError(
            f"{where}{kind}: its weights are spread over processes; gather its full state dict "
            "into the original nn.Module."
        )
    graph = getattr(part, "graph", None)
    if isinstance(part, torch.fx.GraphModule) and any(
        isinstance(node.target, torch._ops.OpOverload)  # noqa: SLF001
        for node in getattr(graph, "nodes", ())
    ):
        raise ModelError(
            f"{where}{kind}: an exported graph of low-level operations, in which attention cannot "
            "be recognised; load the original nn.Module."
        )
