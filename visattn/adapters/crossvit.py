"""CrossViT (Chen et al., ICCV 2021): a fine and a coarse branch that exchange class tokens.

The stream holds both branches, ``[class, fine patches, class, coarse patches]``. Each branch
attends within itself; in the fusion the class token of one branch reads the patches of the other.
The walk ends on the fine grid, where coarse patches hand their relevance to the cells they cover.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step

UNREAD = "the head averages patch tokens, which the last fusion leaves as they are"


@ADAPTERS.register("crossvit")
class CrossvitAdapter(Adapter):
    """timm ``CrossVit``; the head averages what it makes of the two branches."""

    family = "crossvit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses."""
        return is_instance(module, "timm.models.crossvit", "CrossVit")

    @property
    def crossvit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    @property
    def averages(self) -> bool:
        """Whether the head averages patch tokens instead of reading class tokens."""
        return bool(self.crossvit.global_pool == "avg")

    def branches(self, size: Size) -> tuple[TokenLayout, TokenLayout]:
        """Return the layouts of the fine and of the coarse branch, each with its class token."""
        fine, coarse = (
            branch_layout(embed, seen, size)
            for embed, seen in zip(
                self.crossvit.patch_embed, self.crossvit.img_size_scaled, strict=True
            )
        )
        return fine, coarse

    def chain(self, size: Size) -> Chain | Refusal:
        """Return both branches' blocks and the fusions between them."""
        for height, width in self.crossvit.img_size_scaled:
            fits = height <= size.height and width <= size.width
            if self.crossvit.crop_scale and fits and (height, width) != tuple(size):
                return Refusal(
                    f"crop_scale: a branch of this CrossViT reads the central {height} x {width} "
                    f"pixels of {size.height} x {size.width} only; build it with crop_scale=False"
                )
        fine, coarse = self.branches(size)
        both = TokenLayout(fine.prefix, fine.grid, fine.cell, coarse.tokens)
        steps, aside = [covering(fine, coarse)], {}
        for number, block in enumerate(self.crossvit.blocks):
            steps += [within(name, both, branch) for name, branch in attentions(number, block)]
            unread = self.averages and number == len(self.crossvit.blocks) - 1
            for name, branch, others in fusions(number, block):
                if unread:
                    aside[name] = UNREAD
                else:
                    steps.append(fusion(name, both, branch, others))
        return Chain(tuple(steps), both, self.readout(both), aside=aside)

    def readout(self, both: TokenLayout) -> Readout:
        """Return the class tokens of both branches, or their patches, half the weight for each."""
        fine, coarse = members(both)
        if not self.averages:
            return Readout("class tokens of both branches", both.one(int(fine[0]), int(coarse[0])))
        row = torch.zeros(both.tokens)
        for branch in (fine, coarse):
            row[branch[1:]] = 0.5 / (len(branch) - 1)
        return Readout("mean of patch tokens, averaged over both branches", row)

    def layout(self, size: Size) -> TokenLayout:
        """Return the layout of the fine branch, which class activation maps read."""
        return self.branches(size)[0]

    def cam_site(self) -> Site:
        """Return the fine patches that the last fusion reads, or that an averaging head reads."""
        if self.averages:
            return Site("norm.0", "output", "tokens")
        last = len(self.crossvit.blocks) - 1
        name = next(name for name, own, _ in fusions(last, self.crossvit.blocks[last]) if own == 1)
        return Site(name.removesuffix("attn") + "norm1", "output", "tokens")


def branch_layout(embed: Any, seen: tuple[int, int], size: Size) -> TokenLayout:
    """Return the layout of a branch that sees the input of ``size`` resized to ``seen``."""
    grid = Size(seen[0] // embed.patch_size[0], seen[1] // embed.patch_size[1])
    height, width = (embed.patch_size[axis] * size[axis] / seen[axis] for axis in (0, 1))
    return TokenLayout(("class",), grid, (height, width))


def members(both: TokenLayout) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the tokens of the fine and of the coarse branch, class token first."""
    everything = torch.arange(both.tokens)
    return everything[: -both.suffix], everything[-both.suffix :]


def attentions(number: int, block: Any) -> Iterator[tuple[str, int]]:
    """Yield the attention operations inside branches, with the branch of each."""
    for branch, part in enumerate(block.blocks):
        for index in range(len(part)):
            yield f"blocks.{number}.blocks.{branch}.{index}.attn", branch


def fusions(number: int, block: Any) -> Iterator[tuple[str, int, bool]]:
    """Yield the fusions, with the branch whose class token asks, and whether it reads patches.

    timm passes the class token alone from the first to any further block of a fusion.
    """
    for branch, part in enumerate(block.fusion):
        if not isinstance(part, nn.Sequential):
            yield f"blocks.{number}.fusion.{branch}.attn", branch, True
            continue
        for index in range(len(part)):
            yield f"blocks.{number}.fusion.{branch}.{index}.attn", branch, index == 0


def within(operation: str, both: TokenLayout, branch: int) -> Step:
    """Return a residual block of attention among the tokens of one branch."""
    window = members(both)[branch][None]
    placement = Placement.windowed(operation, window, both.tokens)
    return Step.block(both, replace(placement, prefix=1))


def fusion(operation: str, both: TokenLayout, branch: int, others: bool) -> Step:
    """Return a residual block in which a branch's class token reads the other branch's patches."""
    query, patches = members(both)[branch][:1], members(both)[1 - branch][1:]
    keys = torch.cat([query, patches]) if others else query
    asked = Reindex.gather(query, both.tokens).transposed()
    placement = Placement(operation, asked, Reindex.gather(keys, both.tokens), prefix=1)
    return Step.block(both, placement)


def covering(fine: TokenLayout, coarse: TokenLayout) -> Step:
    """Return the step from the fine grid to both branches: coarse patches cover fine cells."""
    before = TokenLayout(("class", "class of the coarse branch"), fine.grid, fine.cell)
    cells = torch.arange(before.places.start, before.places.stop)
    columns = torch.cat([torch.tensor([0]), cells, torch.tensor([1]), cells])
    apart = Reindex.identity(fine.tokens + 1).beside(overlap(coarse, fine))
    size = (apart.size[0], before.tokens)
    return Step(before, (), Reindex(apart.rows, columns[apart.columns], apart.shares, size))


def overlap(coarse: TokenLayout, fine: TokenLayout) -> Reindex:
    """Return the shares (coarse patch, fine patch): the area that the two have in common."""
    rows, cols = (
        common(coarse.grid[axis], coarse.cell[axis], fine.grid[axis], fine.cell[axis])
        for axis in (0, 1)
    )
    return Reindex.dense(torch.kron(rows, cols), normalised=True)


def common(count: int, extent: float, others: int, other: float) -> torch.Tensor:
    """Return the length that intervals of ``extent`` and of ``other`` have in common, by pairs."""
    start = torch.arange(count, dtype=torch.float64)[:, None] * extent
    against = torch.arange(others, dtype=torch.float64) * other
    length = torch.minimum(start + extent, against + other) - torch.maximum(start, against)
    return length.where(length > 1e-6 * min(extent, other), 0.0)
