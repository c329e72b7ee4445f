"""Attentive class activation tokens (Qiang et al., NeurIPS 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Chain, Refusal, Site, Stream, chain_of
from visattn.errors import UnsupportedMethodError, suggestion
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.walk import Walk
from visattn.observation import AttentionRecord, wide
from visattn.propagation import rules_named

TOKENS = ("output", "input")


@METHODS.register("attcat")
@dataclass(frozen=True)
class AttentiveClassActivationTokens(Method):
    """Token times its gradient, weighted by the attention that the token receives, all layers.

    ``c_i = <dy/dh_i, h_i>``, ``a_i = 1/(H N) sum_h sum_k A_hki``, map ``m_i = sum_l a_i c_i`` on
    patches, h the tokens behind layer l and y the explained score. ``tokens="input"`` takes those
    that enter layer l, as the authors' code does. Signed, in units of the score. Class-specific.

    In a class-token model patch tokens behind the last layer have a gradient of zero, so that the
    last layer adds nothing with ``tokens="output"``. ``backward`` names rules of the backward pass
    ("Libra AttCAT" is ``libra``).

    Forward, backward and the column means of A, 2 L N^2 D operations; memory N D per layer for
    tokens and gradients.

    Qiang et al., NeurIPS 2022, for text. Plain pre-norm transformers.
    """

    class_specific: ClassVar[bool] = True
    signed: ClassVar[bool] = True
    attention: ClassVar[bool] = True
    walks: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "L N D"
    applies: ClassVar[str] = "plain transformers"
    formula: ClassVar[str] = "sum_l received attention * <dy/dh, h>"
    paper: ClassVar[str] = "Qiang et al., NeurIPS 2022"

    tokens: str = "output"
    start_layer: int = 0
    layers: Any = None
    backward: str = "plain"

    def __post_init__(self) -> None:
        if self.tokens not in TOKENS:
            raise UnsupportedMethodError(
                f"attcat: tokens={self.tokens!r} is neither 'output' nor 'input'."
                + suggestion(str(self.tokens), TOKENS)
            )
        rules_named(self.backward)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the method does not apply: it reads a stream of tokens, whatever the head."""
        chain, stream = chain_of(adapter, size), adapter.stream()
        if isinstance(chain, Chain) and chain.refusal is not None:
            return chain.refusal.reason
        return next((each.reason for each in (chain, stream) if isinstance(each, Refusal)), None)

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the tokens behind, or before, each chosen layer."""
        stream = adapter.stream()
        return () if isinstance(stream, Refusal) else tuple(self._read(stream).values())

    def _read(self, stream: Stream) -> dict[int, Site]:
        chosen = choose(len(stream.blocks), self.layers, self.start_layer)
        blocks = {layer: stream.blocks[layer] for layer in chosen}
        side = "after" if self.tokens == "output" else "before"
        return {layer: getattr(block, side) for layer, block in blocks.items()}

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the weighted tokens on the grid."""
        del geometries
        walk, stream = Walk.of(record), record.adapter.stream()
        assert isinstance(stream, Stream)  # noqa: S101  refused before
        sites = self._read(stream)
        parts = [self._layer(walk, layer, site) for layer, site in sites.items()]
        layout = walk.chain.layout
        return Maps(
            layout.to_grid(torch.stack(parts).sum(dim=0)),
            layout.cell,
            facts={"layers": list(sites), "tokens": f"{self.tokens} of each layer"},
        )

    def _layer(self, walk: Walk, layer: int, site: Site) -> torch.Tensor:
        """Return ``a c`` (batch, token) of one layer."""
        activation = walk.record.activations[site]
        received = walk.received(walk.chain.steps[walk.layers[layer]])
        if activation.gradient is None or received is None:
            raise UnsupportedMethodError(f"The {site} was observed without gradients.")
        return received * (wide(activation.value) * wide(activation.gradient)).sum(dim=-1)
