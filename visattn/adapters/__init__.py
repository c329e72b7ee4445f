"""What the tokens of each architecture family mean, which of them its head reads."""

from __future__ import annotations

from torch import nn

from visattn.adapters.adapter import Adapter, Site
from visattn.adapters.chain import Chain, Readout, Refusal
from visattn.adapters.layout import TokenLayout
from visattn.adapters.opaque import OpaqueAdapter
from visattn.adapters.registry import ADAPTERS
from visattn.errors import ModelError

__all__ = [
    "ADAPTERS",
    "Adapter",
    "Chain",
    "OpaqueAdapter",
    "Readout",
    "Refusal",
    "Site",
    "TokenLayout",
    "find_adapter",
    "register_adapter",
]

register_adapter = ADAPTERS.register


def find_adapter(module: nn.Module) -> Adapter:
    """Return the adapter of the one family that claims ``module``.

    `OpaqueAdapter` where none does; raises `ModelError` where several do, naming them.
    """
    claims = [kind for kind in map(ADAPTERS.get, ADAPTERS.names()) if kind.matches(module)]
    if len(claims) > 1:
        names = ", ".join(kind.family for kind in claims)
        raise ModelError(f"{type(module).__name__} is claimed by several families: {names}.")
    return (claims[0] if claims else OpaqueAdapter)(module)
