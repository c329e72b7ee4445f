"""Non-local blocks (Wang et al., CVPR 2018) inside residual blocks, as timm's ``attn_layer='nl'``.

timm has no architecture of its own with them; its ResNets and ``ByobNet`` take them by option.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Step
from visattn.tokens.strided import POINTWISE, halving, pixels, shrunk, strided_layers

STAGES = ("layer1", "layer2", "layer3", "layer4")


@ADAPTERS.register("non_local")
class NonLocalAdapter(Adapter):
    """timm ``ResNet`` with non-local attention in its residual blocks."""

    family = "non_local"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it contains non-local attention."""
        return is_instance(module, "timm.models.resnet", "ResNet") and any(
            map(is_non_local, module.modules())
        )

    @property
    def resnet(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return non-local attention and strided blocks from the first attention on."""
        layout = shrunk(pixels(size), self.resnet.conv1, self.resnet.maxpool)
        steps: list[Step] = []
        for name in STAGES:
            for index, block in enumerate(getattr(self.resnet, name)):
                strided = tuple(strided_layers(block))
                if steps and strided:
                    steps.append(Step(layout, (), halving(block, block.downsample, layout.grid)))
                layout = shrunk(layout, *strided[:1])
                steps.extend(non_local_steps(f"{name}.{index}", block, layout))
        readout = pooled_readout(layout, self.resnet.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE,))

    def cam_site(self) -> Site:
        """Return the feature map that is pooled."""
        return Site("global_pool", "input", "channels_first")


def is_non_local(part: Any) -> bool:
    """Return whether ``part`` is attention of a whole feature map with its own residual path."""
    return is_instance(part, "timm.layers.non_local_attn", "NonLocalAttn")


def non_local_steps(name: str, block: nn.Module, layout: TokenLayout) -> Iterator[Step]:
    """Yield the attention inside a residual block, over the feature map behind its stride."""
    for part_name, part in block.named_modules(prefix=name):
        if is_non_local(part):
            yield Step.attention(layout, part_name)
