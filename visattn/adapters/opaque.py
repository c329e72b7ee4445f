"""Modules of no known family: methods that need only inputs and outputs still apply."""

from __future__ import annotations

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal

CELL = 16


class OpaqueAdapter(Adapter):
    """The family of everything that no other family claims."""

    family = "unknown"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match nothing: this family is chosen when no other is."""
        del module
        return False

    def chain(self, size: Size) -> Chain | Refusal:
        """Refuse: the meaning of the module's tokens is not known."""
        del size
        return self._refusal("what its tokens mean")

    def cam_site(self) -> Site | Refusal:
        """Refuse: which activation to read is not known."""
        return self._refusal("which activation carries its evidence")

    def grid(self, size: Size) -> tuple[Size, tuple[float, float]]:
        """Return cells of about `CELL` pixels."""
        grid = Size(max(1, size.height // CELL), max(1, size.width // CELL))
        return grid, (size.height / grid.height, size.width / grid.width)

    def _refusal(self, what: str) -> Refusal:
        return Refusal(
            f"{type(self.module).__name__} belongs to no family that visattn knows, so it cannot "
            f"tell {what}; describe it with visattn.adapters.register_adapter, or use a method "
            "that needs only inputs and outputs, such as integrated_gradients"
        )
