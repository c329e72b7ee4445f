"""Convolutional networks that end in a global pool over their last feature map."""

from __future__ import annotations

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal

POOLS = ("global_pool", "head.global_pool", "avgpool")
WHOLE = "pre_logits"


@ADAPTERS.register("convnet")
class ConvNetAdapter(Adapter):
    """Any module with convolutions, no multi-head attention, and a named global pool."""

    family = "convnet"
    general = True

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match modules whose global pool receives a feature map."""
        names = dict(module.named_modules())
        convolutional = any(isinstance(part, nn.Conv2d) for part in names.values())
        heads = any(hasattr(part, "num_heads") for part in names.values())
        return convolutional and not heads and any(pool in names for pool in POOLS)

    def chain(self, size: Size) -> Chain | Refusal:
        """Refuse: there are no attention operations to walk."""
        del size
        return self._refusal()

    def cam_site(self) -> Site | Refusal:
        """Return the feature map that enters the global pool.

        In VGG a convolution of the head's, as large as the map, stands before the pool and leaves
        no map: there it is what enters that convolution.
        """
        names = dict(self.module.named_modules())
        before = names.get(WHOLE, nn.Identity()).modules()
        if any(isinstance(part, nn.Conv2d) and max(part.kernel_size) > 1 for part in before):
            return Site(WHOLE, "input", "channels_first")
        return Site(next(p for p in POOLS if p in names), "input", "channels_first")

    def grid(self, size: Size) -> tuple[Size, tuple[float, float]]:
        """Return the grid of the last stage, from timm's ``feature_info`` where it exists."""
        info = getattr(self.module, "feature_info", None)
        stride = int(info[-1]["reduction"]) if isinstance(info, list) and info else 32
        grid = Size(-(-size.height // stride), -(-size.width // stride))
        return grid, (size.height / grid.height, size.width / grid.width)

    def _refusal(self) -> Refusal:
        return Refusal(
            f"{type(self.module).__name__} has no attention operations over tokens; "
            "class activation maps and gradient methods apply"
        )
