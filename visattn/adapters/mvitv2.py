"""MViTv2 (Li et al., CVPR 2022): pooled queries, keys and values, a pooled residual path."""

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
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import convolved
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import conv_layout

RESIDUAL = (
    "pooled queries are added to the output of attention; the residual path of a block stands for "
    "its own and for theirs"
)


@ADAPTERS.register("mvitv2")
class MultiScaleAdapter(Adapter):
    """timm ``MultiScaleVit``: the class token is optional."""

    family = "mvitv2"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.mvitv2", "MultiScaleVit")

    @property
    def mvit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain:
        """Return the blocks in order; the residual path of a pooling block is its max pool."""
        prefix = () if self.mvit.cls_token is None else ("class",)
        layout = conv_layout(self.mvit.patch_embed.proj, size, prefix)
        steps: list[Step] = []
        residual = False
        for name, block in self._blocks():
            step, layout = multi_scale_block(f"{name}.attn", block, layout)
            steps.append(step)
            residual |= block.attn.residual_pooling
        readout = pooled_readout(layout, self.mvit.global_pool)
        return Chain(tuple(steps), layout, readout, notes=(RESIDUAL,) if residual else ())

    def layout(self, size: Size) -> TokenLayout:
        """Return the layout at the site: before the last block where the head reads one token."""
        chain = self.chain(size)
        return chain.steps[-1].before if self.mvit.global_pool == "token" else chain.end

    def cam_site(self) -> Site:
        """Return the tokens that enter the head's average, or the last attention."""
        if self.mvit.global_pool != "token":
            return Site("norm", "output", "tokens")
        name = [name for name, _ in self._blocks()][-1]
        return Site(f"{name}.norm1", "output", "tokens")

    def _blocks(self) -> Iterator[tuple[str, Any]]:
        for number, stage in enumerate(self.mvit.stages):
            for index, block in enumerate(stage.blocks):
                yield f"stages.{number}.blocks.{index}", block


def multi_scale_block(name: str, block: Any, layout: TokenLayout) -> tuple[Step, TokenLayout]:
    """Return a block's step and the layout behind it.

    Keys stand for the values that they let through: a slot lies on the tokens that its value was
    pooled from, by the value's own kernel.
    """
    prefix = len(layout.prefix)
    after, skip = layout, Reindex.identity(layout.tokens)
    if block.shortcut_pool_attn is not None:
        pool, grid = convolved(layout.grid, block.shortcut_pool_attn)
        after, skip = layout.coarser(grid), pool.behind(prefix)
    keys = Reindex.identity(layout.tokens)
    if block.attn.pool_v is not None:
        keys = convolved(layout.grid, block.attn.pool_v)[0].behind(prefix)
    queries = Reindex.identity(after.tokens)
    return Step(layout, (Placement(name, queries, keys, prefix=prefix),), skip), after
