"""What the tokens of each architecture family mean, which of them its head reads."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.memory import chain_of, remembered, remembered_chains
from visattn.adapters.opaque import OpaqueAdapter
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.stream import Block, Stream
from visattn.errors import ModelError
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step

__all__ = [
    "ADAPTERS",
    "Adapter",
    "Block",
    "Chain",
    "OpaqueAdapter",
    "Placement",
    "Readout",
    "Refusal",
    "Reindex",
    "Site",
    "Step",
    "Stream",
    "TokenLayout",
    "chain_of",
    "find_adapter",
    "register_adapter",
    "remembered",
    "remembered_chains",
]


def register_adapter(name: str) -> Callable[[type[Adapter]], type[Adapter]]:
    """Return a decorator that makes an `Adapter` known under ``name``.

    The class says what a model's tokens mean; docs/adapters.md has a complete example::

        @register_adapter("my_net")
        class MyNetAdapter(Adapter):
            family = "my_net"

            @classmethod
            def matches(cls, module):
                return isinstance(module, MyNet)

            def chain(self, size):
                patch = self.module.patch
                grid = Size(size.height // patch, size.width // patch)
                layout = TokenLayout(("class",), grid, (patch, patch))
                steps = [Step.attention(layout, f"blocks.{i}") for i in range(12)]
                return Chain(tuple(steps), layout, Readout("class token", layout.one(0)))

            def cam_site(self):
                return Site("blocks.11.norm1", "output", "tokens")

    Raises `VisattnError` for a name that is taken.
    """
    return ADAPTERS.register(name)


def find_adapter(module: nn.Module) -> Adapter:
    """Return the adapter of the one family that claims ``module``.

    A `general` family is asked only where no other claims the module; `OpaqueAdapter` where none
    does; raises `ModelError` where several do, naming them.
    """
    claims = [kind for kind in map(ADAPTERS.get, ADAPTERS.names()) if kind.matches(module)]
    claims = [kind for kind in claims if not kind.general] or claims
    if len(claims) > 1:
        names = ", ".join(kind.family for kind in claims)
        raise ModelError(f"{type(module).__name__} is claimed by several families: {names}.")
    return (claims[0] if claims else OpaqueAdapter)(module)
