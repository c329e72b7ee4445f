"""Recognising classes of libraries that may not be there."""

from __future__ import annotations

import sys

from torch import nn


def is_instance(module: nn.Module, home: str, *names: str) -> bool:
    """Return whether ``module`` is of a class of ``home``, without importing that library."""
    loaded = sys.modules.get(home)
    return loaded is not None and isinstance(module, tuple(getattr(loaded, n) for n in names))
