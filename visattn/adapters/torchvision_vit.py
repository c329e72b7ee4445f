"""torchvision's vision transformer (Dosovitskiy et al., ICLR 2021): one class token."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter, outputs_of
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.stream import Block, Stream
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Step


@ADAPTERS.register("torchvision_vit")
class TorchvisionVitAdapter(Adapter):
    """torchvision ``VisionTransformer``; its input has the one size that it was built for."""

    family = "torchvision_vit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match torchvision's class and its subclasses."""
        return is_instance(module, "torchvision.models.vision_transformer", "VisionTransformer")

    @property
    def vit(self) -> Any:
        """The module, whose attributes torchvision defines."""
        return self.module

    @property
    def layers(self) -> tuple[str, ...]:
        """Dotted names of the encoder's layers."""
        children = self.vit.encoder.layers.named_children()
        return tuple(f"encoder.layers.{name}" for name, _ in children)

    def layout(self, size: Size) -> TokenLayout:
        """Return the class token and the patches of an input of ``size``."""
        side = int(self.vit.patch_size)
        grid = Size(size.height // side, size.width // side)
        return TokenLayout(("class",), grid, (float(side), float(side)))

    def block_sites(self) -> tuple[Site | None, ...]:
        """Return the output of every layer of the encoder."""
        return tuple(Site(name, "output", "tokens", norm=True) for name in self.layers)

    def chain(self, size: Size) -> Chain:
        """Return the encoder's layers; the head reads the class token."""
        layout = self.layout(size)
        steps = (Step.attention(layout, f"{name}.self_attention") for name in self.layers)
        return Chain(tuple(steps), layout, pooled_readout(layout, "token"))

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last attention."""
        return Site(f"{self.layers[-1]}.ln_1", "output", "tokens")

    def stream(self) -> Stream | Refusal:
        """Return where the encoder's layers are read; positions are added before the first."""
        for name in self.layers:
            layer = self.module.get_submodule(name)
            if type(layer).__name__ != "EncoderBlock":
                return Refusal(
                    f"{name} is a {type(layer).__name__} and not torchvision's EncoderBlock, so "
                    "where its attention enters the stream is not known"
                )
        blocks = (Block.at(name, "ln_2", f"{name}.self_attention") for name in self.layers)
        return Stream(tuple(blocks), self.classified, drops=True)

    def classified(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what the head makes of the mean of all tokens (batch, token, channel)."""
        classes: torch.Tensor = self.vit.heads(self.vit.encoder.ln(tokens.mean(dim=1)))
        return classes

    @property
    def num_classes(self) -> int | None:
        """Number of outputs of the head, which a user may have replaced; 0 without one."""
        return outputs_of(self.vit.heads)
