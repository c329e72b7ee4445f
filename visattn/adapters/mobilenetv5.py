"""MobileNetV5, the image tower of Gemma 3n (Google, 2025): MobileNetV4's attention on two scales.

The feature maps of several stages are enlarged to the finest, joined by channel and brought to a
fixed resolution. Behind the first of them the stream carries all maps that wait to be joined: the
current one as its grid, the waiting ones as its suffix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.mobilenetv3 import is_mobile_attention, mobile_attention
from visattn.adapters.pooling import pooled_readout
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import interpolated, pooled
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import POINTWISE, mean_of, moved, pixels, shrunk

HOME = "timm.models.mobilenetv5"
JOINED = "feature maps that are joined by channel count equally"


@ADAPTERS.register("mobilenetv5")
class MobileNetV5Adapter(Adapter):
    """timm ``MobileNetV5``, whose head reads an average, and its encoder without head."""

    family = "mobilenetv5"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's two classes where they contain attention."""
        return is_instance(module, HOME, "MobileNetV5", "MobileNetV5Encoder") and any(
            map(is_mobile_attention, module.modules())
        )

    @property
    def mobilenet(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def chain(self, size: Size) -> Chain | Refusal:
        """Return attention, strided convolutions and the fusion of scales."""
        stages, taps = self.mobilenet.blocks, tuple(self.taps)
        if taps and (taps[0] == 0 or taps[-1] != len(stages)):
            return Refusal(
                f"this {type(self.module).__name__} joins the feature maps {taps} of the stem (0) "
                f"and {len(stages)} stages; only stages up to the last one can be walked"
            )
        layout = shrunk(pixels(size), self.mobilenet.conv_stem)
        steps: list[Step] = []
        waiting: list[TokenLayout] = []
        for number, stage in enumerate(stages, start=1):
            own, after = stage_steps(f"blocks.{number - 1}", stage, layout, bool(steps))
            if waiting and any(step.skip is None for step in own):
                return Refusal("attention without residual path runs beside a waiting feature map")
            steps.extend(beside(step, waiting) for step in own)
            layout = after
            if number in taps[:-1]:
                steps.append(fork(layout, waiting))
                waiting.append(layout)
        if self.mobilenet.msfa is not None:
            fused, layout = fusion(self.mobilenet.msfa, layout, waiting)
            steps.append(fused)
        notes = (POINTWISE, JOINED) if waiting else (POINTWISE,)
        return Chain(tuple(steps), layout, self.readout(layout), notes=notes)

    @property
    def taps(self) -> list[int]:
        """Numbers of the stages whose feature maps are joined, the first stage is 1."""
        return [] if self.mobilenet.msfa is None else list(self.mobilenet.msfa_indices)

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return the average, or that the encoder has no head."""
        pool = getattr(self.mobilenet, "global_pool", None)
        return pooled_readout(layout, "" if pool is None else pool.pool_type)

    def cam_site(self) -> Site:
        """Return the feature map that is pooled, or that the encoder returns."""
        if hasattr(self.mobilenet, "global_pool"):
            return Site("global_pool", "input", "channels_first")
        last = (
            "msfa"
            if self.mobilenet.msfa is not None
            else f"blocks.{len(self.mobilenet.blocks) - 1}"
        )
        return Site(last, "output", "channels_first")


def stage_steps(
    name: str, stage: Any, layout: TokenLayout, begun: bool
) -> tuple[list[Step], TokenLayout]:
    """Return the steps of one stage, from the first attention on unless the walk has ``begun``."""
    steps: list[Step] = []
    for index, block in enumerate(stage):
        if is_mobile_attention(block):
            steps.append(mobile_attention(f"{name}.{index}.attn", block, layout))
            continue
        steps.extend(moved(layout, block)[0] if steps or begun else ())
        layout = shrunk(layout, block)
    return steps, layout


def carrying(layout: TokenLayout, waiting: list[TokenLayout]) -> TokenLayout:
    """Return the layout of the current map with the waiting ones behind it."""
    count = sum(other.tokens for other in waiting)
    return TokenLayout(layout.prefix, layout.grid, layout.cell, count)


def fork(layout: TokenLayout, waiting: list[TokenLayout]) -> Step:
    """Return the step behind which a copy of the current map waits beside the others."""
    before = carrying(layout, waiting)
    every, own = torch.arange(before.tokens), torch.arange(layout.tokens)
    return Step(before, (), Reindex.gather(torch.cat([every, own]), before.tokens))


def beside(step: Step, waiting: list[TokenLayout]) -> Step:
    """Return a step of the current map, beside waiting maps that stay what they are."""
    if not waiting:
        return step
    before = carrying(step.before, waiting)
    none = torch.zeros(0, dtype=torch.long)
    nothing, waits = torch.zeros(0, dtype=torch.float64), before.suffix
    unasked = Reindex(none, none, nothing, (waits, 0))
    unread = Reindex(none, none, nothing, (0, waits))
    placements = tuple(
        Placement(
            placed.operation,
            placed.queries.beside(unasked),
            placed.keys.beside(unread),
            origin=None if placed.origin is None else placed.origin.beside(unread),
        )
        for placed in step.placements
    )
    skip = None if step.skip is None else step.skip.beside(Reindex.identity(waits))
    return Step(before, placements, skip)


def fusion(msfa: Any, layout: TokenLayout, waiting: list[TokenLayout]) -> tuple[Step, TokenLayout]:
    """Return the step of joining all maps at the finest, brought to the output's resolution."""
    before = carrying(layout, waiting)
    finest = (waiting or [layout])[0]
    ways, first = [], 0
    for part in (layout, *waiting):
        places = Reindex.gather(torch.arange(first, first + part.tokens), before.tokens)
        enlarged = part.grid.height < finest.grid.height or part.grid.width < finest.grid.width
        if enlarged:
            places = interpolated(part.grid, finest.grid, msfa.interpolation_mode).then(places)
        ways.append(places)
        first += part.tokens
    out = Size(*msfa.output_resolution)
    joined = resolution(finest.grid, out).then(mean_of(*ways))
    high, wide = (finest.cell[i] * finest.grid[i] / out[i] for i in (0, 1))
    return Step(before, (), joined), TokenLayout((), out, (high, wide))


def resolution(grid: Size, out: Size) -> Reindex:
    """Return timm's average pooling to whole ratios, else bilinear resizing."""
    if grid.height % out.height or grid.width % out.width:
        return interpolated(grid, out, "bilinear")
    return pooled(grid, (grid.height // out.height, grid.width // out.width))[0]
