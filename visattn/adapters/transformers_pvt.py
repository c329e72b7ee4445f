"""PVT (Wang et al., ICCV 2021) and SegFormer (Xie et al., NeurIPS 2021) of transformers.

Every token attends to keys that a strided convolution made of all tokens. PVT's class token joins
in the last stage; it stands in the stream from the start, so that one prefix serves all stages.
"""

from __future__ import annotations

from typing import Any

import torch

from visattn.adapters.pooling import pooled_readout
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.transformers_model import TransformersAdapter
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.resampling import convolved
from visattn.tokens.step import Placement, Step
from visattn.tokens.strided import conv_layout, strided

MIX = "the 3 x 3 convolutions inside SegFormer's MLPs are walked as the identity"


@ADAPTERS.register("transformers_pvt")
class TransformersPvtAdapter(TransformersAdapter):
    """``Pvt...`` models; classifiers read the class token."""

    family = "transformers_pvt"
    homes = {"pvt": "Pvt"}  # noqa: RUF012 - a ClassVar of the base

    def chain(self, size: Size) -> Chain:
        """Return the stages in order; the class token attends in the last one."""
        encoder = self.body.encoder
        layout = conv_layout(encoder.patch_embeddings[0].projection, size, ("class",))
        steps: list[Step] = []
        for number, (embed, blocks) in enumerate(
            zip(encoder.patch_embeddings, encoder.block, strict=True)
        ):
            if number:
                step, layout = strided(layout, embed.projection)
                steps.append(step)
            for index, block in enumerate(blocks):
                name = f"{self.inside}encoder.block.{number}.{index}.attention.self"
                conv = getattr(block.attention.self, "sequence_reduction", None)
                steps.append(reduced(name, layout, conv, whole=embed.cls_token is not None))
        return Chain(tuple(steps), layout, self.readout(layout))

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return which tokens the head reads."""
        return pooled_readout(layout, "token") if self.num_classes else self.unread()

    @property
    def num_features(self) -> int | None:
        """Number of channels behind the last stage."""
        return int(self.config.hidden_sizes[-1])

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last attention."""
        stages = self.body.encoder.block
        place = f"{len(stages) - 1}.{len(stages[-1]) - 1}"
        return Site(f"{self.inside}encoder.block.{place}.layer_norm_1", "output", "tokens")


@ADAPTERS.register("transformers_segformer")
class TransformersSegformerAdapter(TransformersAdapter):
    """``Segformer...`` models; classifiers read the mean of the last grid."""

    family = "transformers_segformer"
    homes = {"segformer": "Segformer"}  # noqa: RUF012 - a ClassVar of the base

    def chain(self, size: Size) -> Chain:
        """Return the stages in order, from the grid of the first patch embedding."""
        stages = self.body.stages
        layout = conv_layout(stages[0].patch_embeddings.proj, size)
        steps: list[Step] = []
        for number, stage in enumerate(stages):
            if number:
                step, layout = strided(layout, stage.patch_embeddings.proj)
                steps.append(step)
            for index, block in enumerate(stage.blocks):
                name = f"{self.inside}stages.{number}.blocks.{index}.attention"
                pool = getattr(block.attention, "sequence_reduction", None)
                conv = None if pool is None else pool.sequence_reduction
                steps.append(reduced(name, layout, conv))
        return Chain(tuple(steps), layout, self.readout(layout), notes=(MIX,))

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return which tokens the head reads; a segmenter reads all stages for every pixel."""
        return pooled_readout(layout, "avg") if self.num_classes else self.unread()

    @property
    def num_features(self) -> int | None:
        """Number of channels behind the last stage."""
        return int(self.config.hidden_sizes[-1])

    def cam_site(self) -> Site:
        """Return the normalised tokens behind the last stage."""
        return Site(
            f"{self.inside}stages.{len(self.body.stages) - 1}.layer_norm", "output", "tokens"
        )


def reduced(operation: str, layout: TokenLayout, conv: Any, whole: bool = True) -> Step:
    """Return attention to keys that ``conv`` made of the patch tokens, to all without it.

    Prefix tokens take part only in ``whole`` attention; elsewhere they pass it by.
    """
    prefix = 0 if whole else len(layout.prefix)
    places = torch.arange(prefix, layout.tokens)
    queries = Reindex.gather(places, layout.tokens)
    if conv is None:
        keys = queries
    else:
        made, _ = convolved(layout.grid, conv)
        size = (made.size[0], layout.tokens)
        keys = Reindex(made.rows, made.columns + layout.places.start, made.shares, size)
    held = len(layout.prefix) if whole else 0
    return Step.block(layout, Placement(operation, queries.transposed(), keys, prefix=held))
