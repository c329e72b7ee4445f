"""Running a model on with another activation in the place of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from visattn.adapters import Site
from visattn.errors import CaptureError
from visattn.models.state import undisturbed

Change = Callable[[torch.Tensor], torch.Tensor]


@contextmanager
def replacing(module: nn.Module, site: Site, change: Change) -> Iterator[None]:
    """Let every pass inside go on with ``change(activation)`` in the place of a site's activation.

    The change may return more rows than it was given, (1, ...) -> (n, ...): what comes before the
    site is then computed once and what comes behind it n times, for models whose code allows it.
    The hook is gone on every exit. Raises `CaptureError` when no pass inside reached the site.
    """
    reached = []

    def replaced(value: Any) -> Any:
        reached.append(True)
        if isinstance(value, (tuple, list)):
            return (change(value[0]), *value[1:])
        return change(value)

    with undisturbed(module):
        part = module.get_submodule(site.module)
        if site.side == "output":
            handle = part.register_forward_hook(lambda _, __, output: replaced(output))
        else:
            handle = part.register_forward_pre_hook(lambda _, inputs: replaced(inputs))
        try:
            yield
        finally:
            handle.remove()
    if not reached:
        raise CaptureError(f"No pass reached the {site}, so nothing was replaced.")
