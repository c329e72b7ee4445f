"""torchvision's MaxViT (Tu et al., ECCV 2022): convolution, window and grid attention in turn."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter, outputs_of
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.resampling import convolved
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, conv_layout
from visattn.tokens.windows import cut, token_plane


@ADAPTERS.register("torchvision_maxvit")
class TorchvisionMaxVitAdapter(Adapter):
    """torchvision ``MaxVit``; its input has the one size that it was built for."""

    family = "torchvision_maxvit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match torchvision's class and its subclasses."""
        return is_instance(module, "torchvision.models.maxvit", "MaxVit")

    @property
    def maxvit(self) -> Any:
        """The module, whose attributes torchvision defines."""
        return self.module

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the blocks in order, from the feature map of the first attention on."""
        layout = conv_layout(self.maxvit.stem[0][0], size)
        steps: list[Step] = []
        for number, block in enumerate(self.maxvit.blocks):
            for index, layer in enumerate(block.layers):
                step, layout = downsampled(layout, layer.layers.MBconv)
                steps += [step] if step and steps else []
                for kind in ("window_attention", "grid_attention"):
                    part = getattr(layer.layers, kind)
                    if tuple(part.grid_size) != tuple(layout.grid):
                        return misfit(layout, part, size)
                    name = f"blocks.{number}.layers.{index}.layers.{kind}.attn_layer.1"
                    steps.append(Step.block(layout, partitioned(name, part, layout)))
        return Chain(tuple(steps), layout, pooled_readout(layout, "avg"), notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head's pool."""
        return Site("classifier.0", "input", "channels_first")

    @property
    def num_features(self) -> int | None:
        """Number of channels of the last block, which the head pools."""
        return int(self.maxvit.blocks[-1].layers[-1].layers.MBconv.layers.conv_c.out_channels)

    @property
    def num_classes(self) -> int | None:
        """Number of outputs of the head, which a user may have replaced; 0 without one."""
        return outputs_of(self.maxvit.classifier)


def downsampled(layout: TokenLayout, block: Any) -> tuple[Step | None, TokenLayout]:
    """Return the pooling on the residual path of a block that halves its feature map."""
    pool = next((part for part in block.proj.modules() if isinstance(part, nn.AvgPool2d)), None)
    if pool is None:
        return None, layout
    skip, grid = convolved(layout.grid, pool)
    return Step(layout, (), skip), layout.coarser(grid)


def partitioned(name: str, part: Any, layout: TokenLayout) -> Placement:
    """Place tokens in windows of ``p`` x ``p``, or across them: one token of each window."""
    slots = cut(token_plane(layout.grid), Size(part.p, part.p))
    index = slots if part.partition_type == "window" else slots.T
    return Placement.windowed(name, index, layout.tokens)


def misfit(layout: TokenLayout, part: Any, size: Size) -> Refusal:
    """Return why an input of another size than the one built for has no walk."""
    return Refusal(
        f"an input of {size.height} x {size.width} makes a feature map of {layout.grid.height} x "
        f"{layout.grid.width} where the model was built for {part.grid_size[0]} x "
        f"{part.grid_size[1]}; build it with input_size={tuple(size)}"
    )
