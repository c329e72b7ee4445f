"""The hash of a module's weights, computed once for as long as they do not change."""

from __future__ import annotations

import hashlib
from weakref import WeakKeyDictionary

import torch
from torch import nn

_KNOWN: WeakKeyDictionary[nn.Module, tuple[int, str]] = WeakKeyDictionary()


def weights_digest(module: nn.Module) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of all parameters and buffers."""
    state = {k: v for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}
    version = hash(tuple((name, t.data_ptr(), t._version) for name, t in state.items()))  # noqa: SLF001
    known = _KNOWN.get(module)
    if known is None or known[0] != version:
        known = _KNOWN[module] = (version, _digest(state))
    return known[1]


def _digest(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in state.items():
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(raw.numpy().tobytes())
    return digest.hexdigest()
