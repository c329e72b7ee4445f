"""Convolutional networks of timm's ``ByobNet`` with self-attention, or an attention pool as head.

Bottleneck attention (Srinivas et al., CVPR 2021), halo attention (Vaswani et al., CVPR 2021) and
lambda layers (Bello, ICLR 2021) replace the convolution of residual bottlenecks; the ResNets of
CLIP (Radford et al., ICML 2021) pool their last feature map by attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from visattn.adapters.adapter import Adapter
from visattn.adapters.non_local import is_non_local, non_local_steps
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.partition import misfit
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import convolved, pooled
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import (
    POINTWISE,
    halving,
    pixels,
    shares,
    shrunk,
    strided_layers,
)
from visattn.tokens.windows import cut, token_plane

LAMBDA = "lambda layers, which have no token-to-token weights, are walked as the identity"


@ADAPTERS.register("byobnet")
class ByobNetAdapter(Adapter):
    """timm ``ByobNet`` with bottleneck attention, halo attention, lambda layers or a pool."""

    family = "byobnet"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class where it contains attention over tokens."""
        return is_instance(module, "timm.models.byobnet", "ByobNet") and any(
            is_bottleneck(part)
            or is_halo(part)
            or is_lambda(part)
            or is_pool(part)
            or is_non_local(part)
            for part in module.modules()
        )

    @property
    def net(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def blocks(self) -> Iterator[tuple[str, Any]]:
        """Yield the residual blocks of all stages with their names."""
        for number, stage in enumerate(self.net.stages):
            for index, block in enumerate(stage):
                yield f"stages.{number}.{index}", block

    def chain(self, size: Size) -> Chain | Refusal:
        """Return residual attention blocks and strided blocks from the first attention on."""
        steps: list[Step] = []
        layout = shrunk(pixels(size), *path(self.net.stem))
        for name, block in self.blocks():
            attention = getattr(block, "self_attn", None)
            problem = halo_misfit(name, attention, layout) if is_halo(attention) else None
            if problem is not None:
                return problem
            if is_bottleneck(attention) or is_halo(attention):
                steps.append(residual_attention(f"{name}.self_attn", block, layout))
            elif steps and path(block):
                steps.append(Step(layout, (), halving(block, residual(block), layout.grid)))
            layout = shrunk(layout, *path(block))
            steps.extend(non_local_steps(name, block, layout))
        if is_pool(self.net.head):
            return self.attention_pool(steps, layout)
        if not steps:
            return Refusal(
                f"{type(self.module).__name__} mixes positions with lambda layers, which have no "
                "token-to-token weights; class activation maps and gradient methods apply"
            )
        readout = pooled_readout(layout, self.net.head.global_pool.pool_type)
        return Chain(tuple(steps), layout, readout, notes=self.approximations())

    def attention_pool(self, steps: list[Step], layout: TokenLayout) -> Chain:
        """Return the chain whose head reads the pool's mean token, or all its tokens."""
        placement = mean_token_pool("head", layout)
        notes = self.approximations() if steps else ()
        if self.net.head.pool_type == "token":
            readout = Readout("attention pool (mean token)", torch.ones(1))
            return Chain(tuple(steps), layout, readout, Step(layout, (placement,)), notes=notes)
        tokens = layout.patches
        spread = Reindex.gather(torch.arange(1, tokens + 1), tokens + 1)
        whole = Placement("head", spread, placement.keys, origin=placement.keys)
        readout_missing = pooled_readout(layout, self.net.head.pool_type)
        return Chain((*steps, Step(layout, (whole,))), layout, readout_missing, notes=notes)

    def approximations(self) -> tuple[str, ...]:
        """Return what the walk takes as the identity."""
        return (POINTWISE, LAMBDA) if any(map(is_lambda, self.module.modules())) else (POINTWISE,)

    def grid(self, size: Size) -> tuple[Size, tuple[float, float]]:
        """Return the finest grid of the walk, or the last feature map where there is none."""
        chain = self.chain(size)
        if not isinstance(chain, Refusal):
            return chain.layout.grid, chain.layout.cell
        layout = shrunk(pixels(size), *path(self.net.stem))
        for _, block in self.blocks():
            layout = shrunk(layout, *path(block))
        return layout.grid, layout.cell

    def cam_site(self) -> Site:
        """Return the feature map that enters the head."""
        return Site("head", "input", "channels_first")


def is_bottleneck(part: Any) -> bool:
    """Return whether ``part`` is attention over a whole feature map."""
    return is_instance(part, "timm.layers.bottleneck_attn", "BottleneckAttn")


def is_halo(part: Any) -> bool:
    """Return whether ``part`` is attention from blocks to blocks with their surroundings."""
    return is_instance(part, "timm.layers.halo_attn", "HaloAttn")


def is_lambda(part: Any) -> bool:
    """Return whether ``part`` is a lambda layer."""
    return is_instance(part, "timm.layers.lambda_layer", "LambdaLayer")


def is_pool(part: Any) -> bool:
    """Return whether ``part`` pools a feature map by attention."""
    home = "timm.layers.attention_pool2d"
    return is_instance(part, home, "AttentionPool2d", "RotAttentionPool2d")


def residual(block: Any) -> nn.Module | None:
    """Return the layers on a block's residual path, or None."""
    return getattr(block, "shortcut", None)


def path(part: Any) -> tuple[nn.Module, ...]:
    """Return the strided layers of a stem, or the one of a block's residual or first branch."""
    layers = tuple(strided_layers(residual(part) or part))
    return layers if isinstance(part, nn.Sequential) else layers[:1]


def residual_attention(name: str, block: Any, layout: TokenLayout) -> Step:
    """Return the step of a ``SelfAttnBlock``, whose stride may lie in its convolution or pool."""
    read, grid = Reindex.identity(layout.tokens), layout.grid
    for conv in strided_layers(block.conv2_kxk):
        read, grid = convolved(grid, conv)
    place = halo_placement if is_halo(block.self_attn) else bottleneck_placement
    placement = place(name, block.self_attn, grid, read)
    return Step(layout, (placement,), shortcut(block.shortcut, layout.grid))


def shortcut(path: nn.Module | None, grid: Size) -> Reindex | None:
    """Return the shares of a residual path of at most one strided layer."""
    if path is None:
        return None
    found = [shares(grid, layer) for layer in strided_layers(path)]
    return found[0] if found else Reindex.identity(grid.height * grid.width)


def bottleneck_placement(name: str, attention: Any, grid: Size, read: Reindex) -> Placement:
    """Place all tokens of ``grid``; the outputs of a strided block are averaged 2 x 2."""
    every = Reindex.identity(grid.height * grid.width)
    queries = output_pool(attention.pool, grid)
    return Placement(name, queries or every, read, order="bhw", origin=read)


def halo_placement(name: str, attention: Any, grid: Size, read: Reindex) -> Placement:
    """Place blocks of queries and, for each, the keys of the block and the halo around it."""
    block, halo = attention.block_size, attention.halo_size
    asked, coarse = convolved(grid, attention.q)
    slots = cut(token_plane(coarse), Size(attention.block_size_ds, attention.block_size_ds))
    made = Reindex.gather(slots, coarse.height * coarse.width)
    plane = functional.pad(token_plane(grid), (halo,) * 4, value=-1)
    around = plane.unfold(0, attention.win_size, block).unfold(1, attention.win_size, block)
    keys = Reindex.gather(around.reshape(len(slots), -1), grid.height * grid.width)
    pool = output_pool(attention.pool, coarse)
    queries = made.transposed() if pool is None else pool.then(made.transposed())
    origin = made.then(asked).then(read)
    return Placement(name, queries, keys.then(read), len(slots), "bhw", origin=origin)


def halo_misfit(name: str, attention: Any, layout: TokenLayout) -> Refusal | None:
    """Return why a feature map cannot be cut into whole blocks, or None where it can."""
    side = Size(attention.block_size, attention.block_size)
    return misfit(f"{name}.self_attn", layout, side)


def output_pool(pool: nn.Module, grid: Size) -> Reindex | None:
    """Return the pooling of an attention layer's output, or None."""
    return None if isinstance(pool, nn.Identity) else pooled(grid, pool.kernel_size, pool.stride)[0]  # type: ignore[arg-type]


def mean_token_pool(name: str, layout: TokenLayout) -> Placement:
    """Return attention pooling from the mean of a feature map to this mean and all positions.

    Slot 0 of queries and keys is the mean token; only its output is read.
    """
    count = layout.patches
    every = torch.arange(count)
    keys = Reindex(
        torch.cat([torch.zeros_like(every), every + 1]),
        torch.cat([every, every]),
        torch.cat([torch.ones(count).double() / count, torch.ones(count).double()]),
        (count + 1, count),
    )
    return Placement(name, Reindex.gather(torch.zeros(1, dtype=torch.long), count + 1), keys)
