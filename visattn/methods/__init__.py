"""Explanation methods: one file each, from an `AttentionRecord` to values on a grid."""

from __future__ import annotations

from typing import Any

from visattn.errors import UnsupportedMethodError
from visattn.methods.absent import absence
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.registry import METHODS

__all__ = ["METHODS", "Maps", "Method", "Passes", "create_method", "get_method", "list_methods"]


def get_method(name: str) -> type[Method]:
    """Return the class of a method; unknown names raise with what to use instead."""
    reason = None if name in METHODS.names() else absence(name, METHODS.names())
    if reason:
        raise UnsupportedMethodError(reason)
    return METHODS.get(name)


def create_method(name: str, **options: Any) -> Method:
    """Return a method with its parameters set; unknown options raise with the nearest one."""
    return get_method(name).create(name, options)


def list_methods() -> list[str]:
    """Return the names of all methods, sorted."""
    return list(METHODS.names())
