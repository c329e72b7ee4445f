"""The registry of replacements."""

from __future__ import annotations

from visattn.errors import ConfigError
from visattn.evaluation.replacements.replacement import Replacement
from visattn.registry import Registry

REPLACEMENTS: Registry[type[Replacement]] = Registry(
    "replacement", "visattn.evaluation.replacements", ConfigError
)
