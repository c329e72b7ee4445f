"""A module as its owner left it: modes, gradients and random states put back on every exit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_GUARD = threading.Lock()


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Run a block with ``module`` in eval mode and put everything back on every exit.

    Restored: the train mode of each submodule on its own, the ``.grad`` and ``requires_grad`` of
    each parameter, and torch's random states. Gradients are never accumulated on parameters
    anyway, because visattn differentiates by captured tensors only. Threads that share a module
    take turns, so that none restores what another has set.
    """
    with _GUARD:
        lock = _LOCKS.setdefault(module, threading.RLock())
    with lock, _restored(module):
        yield


@contextmanager
def _restored(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    flags = [(weight, weight.requires_grad, weight.grad) for weight in module.parameters()]
    devices = sorted({w.device.index or 0 for w in module.parameters() if w.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            module.eval()
            yield
        finally:
            for part, training in modes:
                part.training = training
            for weight, requires_grad, gradient in flags:
                weight.requires_grad_(requires_grad)
                weight.grad = gradient
