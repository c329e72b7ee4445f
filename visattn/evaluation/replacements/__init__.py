"""Replacements: what stands in the place of what is removed from an input, by name."""

from __future__ import annotations

from visattn.evaluation.replacements.registry import REPLACEMENTS
from visattn.evaluation.replacements.replacement import Replacement, Substitute, Variant

__all__ = ["REPLACEMENTS", "Replacement", "Substitute", "Variant", "list_replacements"]


def list_replacements() -> list[str]:
    """Return the names of all replacements, sorted."""
    return list(REPLACEMENTS.names())
