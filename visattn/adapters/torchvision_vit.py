"""torchvision's vision transformer (Dosovitskiy et al., ICLR 2021): one class token."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter, outputs_of
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
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

    def layout(self, size: Size) -> TokenLayout:
        """Return the class token and the patches of an input of ``size``."""
        side = int(self.vit.patch_size)
        grid = Size(size.height // side, size.width // side)
        return TokenLayout(("class",), grid, (float(side), float(side)))

    def block_sites(self) -> tuple[Site | None, ...]:
        """Return the output of every layer of the encoder."""
        layers = [name for name, _ in self.vit.encoder.layers.named_children()]
        names = (f"encoder.layers.{name}" for name in layers)
        return tuple(Site(name, "output", "tokens", norm=True) for name in names)

    def chain(self, size: Size) -> Chain:
        """Return the encoder's layers; the head reads the class token."""
        layout = self.layout(size)
        layers = [name for name, _ in self.vit.encoder.layers.named_children()]
        steps = (Step.attention(layout, f"encoder.layers.{name}.self_attention") for name in layers)
        return Chain(tuple(steps), layout, pooled_readout(layout, "token"))

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last attention."""
        *_, (last, _) = self.vit.encoder.layers.named_children()
        return Site(f"encoder.layers.{last}.ln_1", "output", "tokens")

    @property
    def num_classes(self) -> int | None:
        """Number of outputs of the head, which a user may have replaced; 0 without one."""
        return outputs_of(self.vit.heads)
