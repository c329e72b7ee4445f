"""EdgeNeXt (Maaz et al., ECCV Workshops 2022): convolutions mix positions, attention channels."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.strided import pixels, shrunk

CHANNELS = "cross-covariance attention: its queries and keys are channels, not tokens"


@ADAPTERS.register("edgenext")
class EdgeNeXtAdapter(Adapter):
    """timm ``EdgeNeXt``, all of whose attention is over channels."""

    family = "edgenext"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.edgenext", "EdgeNeXt")

    @property
    def edgenext(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return no steps, and why: there are no weights between tokens to walk."""
        end = shrunk(pixels(size), self.edgenext.stem, *self.edgenext.stages)
        refusal = Refusal(
            f"{type(self.module).__name__} mixes positions by convolution alone, its "
            "cross-covariance attention mixes channels; gradcam, layercam and "
            "integrated_gradients apply"
        )
        return Chain(
            (), end, refusal, refusal=refusal, aside=dict.fromkeys(self.channels(), CHANNELS)
        )

    def channels(self) -> list[str]:
        """Name the operations over channels."""
        home = "timm.models.edgenext"
        return [
            name
            for name, part in self.module.named_modules()
            if is_instance(part, home, "CrossCovarianceAttn")
        ]

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")
