"""The registry of architecture families."""

from __future__ import annotations

from visattn.adapters.adapter import Adapter
from visattn.errors import ModelError
from visattn.registry import Registry

ADAPTERS: Registry[type[Adapter]] = Registry("model family", "visattn.adapters", ModelError)
