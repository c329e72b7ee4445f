"""MobileViT (Mehta and Rastegari, ICLR 2022): attention between equal places of all patches."""

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
from visattn.tokens.resampling import interpolated
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, moved, pixels, shrunk
from visattn.tokens.windows import cut, token_plane

SHORTCUT = (
    "the shortcut around the transformers of a block is walked with the residual paths inside them"
)


@ADAPTERS.register("mobilevit")
class MobileVitAdapter(Adapter):
    """timm ``ByobNet`` with MobileViT blocks; those of MobileViT v2 have linear attention."""

    family = "mobilevit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it contains MobileViT blocks of the first version."""
        return is_instance(module, "timm.models.byobnet", "ByobNet") and any(
            map(is_mobile, module.modules())
        )

    @property
    def net(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def blocks(self) -> Iterator[tuple[str, Any]]:
        """Yield the blocks of all stages with their names."""
        for number, stage in enumerate(self.net.stages):
            for index, block in enumerate(stage):
                yield f"stages.{number}.{index}", block

    def chain(self, size: Size) -> Chain:
        """Return transformers and strided blocks from the first transformer on."""
        steps: list[Step] = []
        layout = shrunk(pixels(size), self.net.stem)
        for name, block in self.blocks():
            if is_mobile(block):
                steps.extend(unfolded_transformer(name, block, layout))
                continue
            strided = getattr(block, "shortcut", None) or block
            moves, layout = moved(layout, strided) if steps else ((), shrunk(layout, strided))
            steps.extend(moves)
        readout = pooled_readout(layout, self.net.head.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=(POINTWISE, SHORTCUT))

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")


def is_mobile(part: Any) -> bool:
    """Return whether ``part`` is a MobileViT block of the first version."""
    return is_instance(part, "timm.models.mobilevit", "MobileVitBlock")


def unfolded_transformer(name: str, block: Any, layout: TokenLayout) -> tuple[Step, ...]:
    """Return the transformer of a block: window p holds the p-th pixel of every patch.

    A feature map that patches do not cover exactly is resized for the transformer, and back.
    """
    patch = Size(*block.patch_size)
    rows, cols = (-(-layout.grid[axis] // patch[axis]) * patch[axis] for axis in (0, 1))
    grid = Size(rows, cols)
    inner = resized(layout, grid)
    slots = cut(token_plane(grid), patch).T
    steps = tuple(
        Step.block(inner, Placement.windowed(f"{name}.transformer.{i}.attn", slots, inner.tokens))
        for i in range(len(block.transformer))
    )
    if grid == layout.grid:
        return steps
    grown = Step(layout, (), interpolated(layout.grid, grid, "bilinear"))
    back = Step(inner, (), interpolated(grid, layout.grid, "bilinear"))
    return (grown, *steps, back)


def resized(layout: TokenLayout, grid: Size) -> TokenLayout:
    """Return the layout of another grid over the same pixels."""
    height, width = (layout.cell[axis] * layout.grid[axis] / grid[axis] for axis in (0, 1))
    return TokenLayout(layout.prefix, grid, (height, width))
