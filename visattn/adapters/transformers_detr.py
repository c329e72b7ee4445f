"""DETR (Carion et al., ECCV 2020) of transformers: encoder over a feature map, object queries.

The stream holds the object queries as prefix tokens from the start: the encoder leaves them alone,
the decoder leaves the feature map alone. A walk starts at one object query, ``query="object 3"``.
"""

from __future__ import annotations

import torch
from torch.func import functional_call

from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.transformers_model import TransformersAdapter
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step

NOTE = (
    "the walk ends on the backbone's feature map, whose cells see far beyond themselves; decoder "
    "layers are walked one after the other, with object queries and feature map as one stream"
)


@ADAPTERS.register("transformers_detr")
class TransformersDetrAdapter(TransformersAdapter):
    """``Detr...`` models."""

    family = "transformers_detr"
    homes = {"detr": "Detr"}  # noqa: RUF012 - a ClassVar of the base

    @property
    def inside(self) -> str:
        """Dotted name of the body inside a detector or segmenter."""
        names = ("detr.model", "model")
        held = dict(self.module.named_modules())
        return next((f"{name}." for name in names if hasattr(held.get(name), "decoder")), "")

    def layout(self, size: Size) -> TokenLayout:
        """Return object queries and feature map; its grid is that of a backbone pass on meta."""
        body = self.body
        tensors = {**dict(body.backbone.named_parameters()), **dict(body.backbone.named_buffers())}
        hollow = {name: torch.empty_like(t, device="meta") for name, t in tensors.items()}
        pixels = torch.empty(1, 3, *size, device="meta", dtype=body.dtype)
        mask = torch.empty(1, *size, device="meta")
        feature_map, _ = functional_call(body.backbone, hollow, (pixels, mask))[-1]
        grid = Size(*map(int, feature_map.shape[-2:]))
        objects = tuple(f"object {i}" for i in range(body.query_position_embeddings.num_embeddings))
        cell = (size.height / grid.height, size.width / grid.width)
        return TokenLayout(objects, grid, cell)

    def chain(self, size: Size) -> Chain:
        """Return encoder layers, then self- and cross-attention of each decoder layer."""
        layout = self.layout(size)
        objects = torch.arange(len(layout.prefix))
        patches = torch.arange(layout.places.start, layout.places.stop)
        steps = [
            within(f"{self.inside}encoder.layers.{i}.self_attn", layout, patches, patches)
            for i in range(len(self.body.encoder.layers))
        ]
        for i in range(len(self.body.decoder.layers)):
            name = f"{self.inside}decoder.layers.{i}"
            steps.append(within(f"{name}.self_attn", layout, objects, objects))
            steps.append(within(f"{name}.encoder_attn", layout, objects, patches))
        refusal = Refusal(
            "every object query is read on its own; choose one: query='object 0', with a target "
            "that scores the same object"
        )
        return Chain(tuple(steps), layout, refusal, notes=(NOTE,), crossed=True)

    def cam_site(self) -> Site:
        """Return the projected feature map that enters the encoder."""
        return Site(f"{self.inside}input_projection", "output", "channels_first")

    @property
    def num_features(self) -> int | None:
        """Number of channels of the projected feature map."""
        return int(self.config.d_model)


def within(operation: str, layout: TokenLayout, queries: torch.Tensor, keys: torch.Tensor) -> Step:
    """Return a residual block in which some tokens attend to others; the rest pass it by."""
    asking = Reindex.gather(queries, layout.tokens).transposed()
    held = int((queries < layout.places.start).sum())
    placement = Placement(operation, asking, Reindex.gather(keys, layout.tokens), prefix=held)
    return Step.block(layout, placement)
