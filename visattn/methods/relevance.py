"""What relevance methods share: activations times modified gradients, and where they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Refusal, Site
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.layers import choose
from visattn.methods.method import Maps
from visattn.methods.pixels import PixelMap, require_choice
from visattn.observation import AttentionRecord, wide

READOUTS = ("pixels", "tokens", "layers", "fullgrad")
PIXELS = Site("", "input", "channels_first")
GAP = 0.05
INCOMPLETE = (
    "relevance and constants miss the score by {:.0%}: the model computes something that the rules "
    "do not make linear"
)


@dataclass(frozen=True)
class Relevance(PixelMap):
    """``x * dy/dx`` on a backward pass with changed rules, summed over channels.

    ``readout``: ``pixels``, at the model's input; ``tokens``, at the tokens that enter the first
    block; ``layers``, summed over the tokens x^l that enter the blocks of ``layers`` (PLUS);
    ``fullgrad``, the same and every additive constant b of those blocks at the token that it is
    added to, ``sum_l (x^l * dy/dx^l + sum_b b * dy/d(out_b))``. Prefix tokens are left out.
    Pixels are summed over cells as in `PixelMap`.

    Where a method has ``gamma_linear`` and ``gamma_convolution``, these are the gammas of the rule
    for layers on tokens and on feature maps; 0 is the epsilon rule with epsilon -> 0, infinity the
    z+ rule. Layers behind the pool keep the epsilon rule. Gamma runs such a layer once more with
    absolute weights, forward and backward.
    """

    signed: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "N D"
    applies: ClassVar[str] = "any model at readout=pixels; plain transformers else"

    readout: str = "pixels"
    layers: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(self, "readout", READOUTS)
        if self.cell is not None and self.readout != "pixels":
            raise UnsupportedMethodError(
                f"cell={self.cell!r} needs readout='pixels'; tokens have cells of their own."
            )
        if self.layers is not None and self.readout not in ("layers", "fullgrad"):
            raise UnsupportedMethodError(
                f"layers={self.layers!r} needs readout='layers' or 'fullgrad'."
            )

    @property
    def additive(self) -> bool:
        """Relevance at one place shares out the score; summed over layers it counts it again."""
        return self.readout in ("pixels", "tokens")

    @property
    def origin(self) -> Any:
        """Zero in normalised space; relevance of tokens has no input that it starts from."""
        return "mean" if self.readout == "pixels" else None

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why tokens of all blocks cannot be read, or None; pixels always can."""
        if self.readout == "pixels":
            return None
        stream, layout = adapter.stream(), adapter.layout(size)
        for missing in (stream, layout):
            if isinstance(missing, Refusal):
                return f"{missing.reason} (readout='pixels' applies to every model)"
        return None

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the input, or where tokens enter blocks."""
        if self.readout == "pixels":
            return (PIXELS,)
        entries = tuple(block.before for block in _blocks(adapter))
        if self.readout == "tokens":
            return entries[:1]
        chosen = tuple(entries[layer] for layer in choose(len(entries), self.layers))
        return (*chosen, PIXELS) if self.rules.constants else chosen

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return signed relevance, in units of the score."""
        del geometries
        if self.readout == "pixels":
            return self.maps(record, relevance_at(record, PIXELS), facts={"readout": "pixels"})
        found = [relevance_at(record, site) for site in self.sites(record.adapter)]
        if self.rules.constants:
            *found, pixels = found
            constants = self._constants(record, found[0].shape[1])
            return self._on_grid(record, [*found, *constants], **completeness(record, pixels))
        return self._on_grid(record, found)

    def _on_grid(self, record: AttentionRecord, parts: Sequence[torch.Tensor], **told: Any) -> Maps:
        layout = record.adapter.layout(record.size)
        row = torch.stack(list(parts)).sum(0)
        if isinstance(layout, Refusal) or row.shape[1] != layout.tokens:
            raise UnsupportedMethodError(
                f"The blocks of {record.adapter.family} hold {row.shape[1]} tokens, which its "
                "layout does not explain; readout='pixels' applies."
            )
        return Maps(layout.to_grid(row), layout.cell, facts={"readout": self.readout}, **told)

    def _constants(self, record: AttentionRecord, tokens: int) -> list[torch.Tensor]:
        blocks = _blocks(record.adapter)
        chosen = [blocks[layer].before.module for layer in choose(len(blocks), self.layers)]
        assert record.ledger is not None  # noqa: S101  the rules keep account
        found = [record.ledger.tokens(name, tokens) for name in chosen]
        return [part for part in found if part is not None]


def relevance_at(record: AttentionRecord, site: Site) -> torch.Tensor:
    """Return ``x * dy/dx`` summed over channels: (batch, token) or (batch, row, col)."""
    activation = record.activations[site]
    if activation.gradient is None:
        raise UnsupportedMethodError(f"The {site} was observed without gradients.")
    product = wide(activation.value) * wide(activation.gradient)
    return product.sum(1 if site.axes == "channels_first" else -1)


def completeness(record: AttentionRecord, pixels: torch.Tensor) -> dict[str, Any]:
    """Measure for each image how far relevance and constants are from adding up to the score.

    ``sum_pixels x dy/dx + sum_b b dy/d(out_b)`` is compared with ``sum out * dy/d(out)`` over the
    model's outputs, which is the score itself where that is linear in them.
    """
    assert record.ledger is not None  # noqa: S101  the rules keep account
    with torch.enable_grad():
        outputs = wide(record.outputs).detach().requires_grad_()
        score = record.again.score_of(outputs, record.indices).sum()
        (slope,) = torch.autograd.grad(score, outputs)
    right = (outputs.detach() * slope).flatten(1).sum(1)
    flat = pixels.flatten(1)
    gap = flat.sum(1) + record.ledger.total(record.batch).to(flat) - right
    # A score may be near zero; what was added up to it is not.
    share = gap.abs() / torch.maximum(right.abs(), flat.abs().sum(1)).clamp(min=1e-30)
    return {
        "measured": [{"completeness_gap": float(g)} for g in gap],
        "warnings": [[INCOMPLETE.format(float(s))] if s > GAP else [] for s in share],
    }


def _blocks(adapter: Adapter) -> Sequence[Any]:
    stream = adapter.stream()
    return () if isinstance(stream, Refusal) else stream.blocks


def require_gamma(**given: float) -> None:
    """Raise `UnsupportedMethodError` for a gamma below zero."""
    for name, value in given.items():
        if not value >= 0:
            raise UnsupportedMethodError(f"{name}={value!r}: gamma is 0, more, or infinity.")
