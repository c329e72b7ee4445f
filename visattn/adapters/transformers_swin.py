"""Swin transformers of transformers: v1 (Liu et al., ICCV 2021) and v2 (CVPR 2022)."""

from __future__ import annotations

from typing import Any

from visattn.adapters.pooling import pooled_readout
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.swin import patch_merging
from visattn.adapters.transformers_model import TransformersAdapter
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Placement, Step
from visattn.tokens.windows import cut, padded, shifted, token_plane


@ADAPTERS.register("transformers_swin")
class TransformersSwinAdapter(TransformersAdapter):
    """``Swin...`` and ``Swinv2...`` models; the pooler averages the last grid."""

    family = "transformers_swin"
    homes = {"swin": "Swin", "swinv2": "Swinv2"}  # noqa: RUF012 - a ClassVar of the base

    def chain(self, size: Size) -> Chain:
        """Return shifted windows and patch merging, stage by stage."""
        layout = padded_patches(self.body.embeddings.patch_embeddings, size)
        second = self.kind(self.module) == "Swinv2"
        steps: list[Step] = []
        for number, stage in enumerate(self.body.encoder.layers):
            for index, block in enumerate(stage.blocks):
                name = f"{self.inside}encoder.layers.{number}.blocks.{index}.attention"
                window, shift = block.window_size, block.shift_size
                if second:
                    name += ".self"
                elif min(layout.grid) <= window:
                    # The first version clamps at every call, to the shorter side of the grid.
                    window, shift = min(layout.grid), 0
                steps.append(Step.block(layout, windows(name, window, shift, layout)))
            if stage.downsample is not None:
                merging, layout = patch_merging(layout)
                steps.append(merging)
        return Chain(tuple(steps), layout, self.readout(layout))

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return which tokens the head reads."""
        if self.head in ("Model", "ForImageClassification") and self.body.pooler is not None:
            return pooled_readout(layout, "avg")
        return self.unread()

    @property
    def num_features(self) -> int | None:
        """Number of channels behind the last stage."""
        return int(self.body.num_features)

    def cam_site(self) -> Site:
        """Return the normalised tokens that the pooler averages."""
        return Site(f"{self.inside}layernorm", "output", "tokens")


def windows(name: str, window: int, shift: int, layout: TokenLayout) -> Placement:
    """Place tokens as transformers does: pad to whole windows, then roll by the shift, cut."""
    side = Size(window, window)
    plane = shifted(padded(token_plane(layout.grid), side), (shift, shift))
    return Placement.windowed(name, cut(plane, side), layout.tokens)


def padded_patches(embed: Any, size: Size) -> TokenLayout:
    """Return the layout behind a patch embedding that pads the image to whole patches."""
    height, width = embed.patch_size
    grid = Size(-(-size.height // height), -(-size.width // width))
    return TokenLayout((), grid, (float(height), float(width)))
