"""The registry of methods."""

from __future__ import annotations

from visattn.errors import UnsupportedMethodError
from visattn.methods.method import Method
from visattn.registry import Registry

METHODS: Registry[type[Method]] = Registry("method", "visattn.methods", UnsupportedMethodError)
