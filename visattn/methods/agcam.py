"""Attention-guided class activation map (Leem & Seo, AAAI 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Refusal, Site, Stream
from visattn.errors import UnsupportedMethodError, suggestion
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.gathering import Gathering, gradient_of
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.registry import METHODS
from visattn.methods.walk import Walk, padding_notes
from visattn.observation import AttentionOperation, AttentionRecord
from visattn.observation.observe import LivePass
from visattn.propagation import rules_named

GRADIENTS = ("full", "published")


@METHODS.register("agcam")
@dataclass(frozen=True)
class AttentionGuidedCam(Method):
    """Positive gradients of the read-out row's attention times its squashed scores, all layers.

    ``m_j = sum_l sum_h (G_h0j)^+ sigmoid(S_h0j)`` over patch columns j, S the scaled scores before
    the softmax (bias and mask included), G the gradient of the explained score by the weights, 0
    the token that the head reads; in general the read-out row r (or ``query``) weighs the rows:
    ``r (G)^+ sigmoid(S)``. Values >= 0, in units of the score. Class-specific.

    ``gradient="full"`` is dy/dA. ``"published"`` is what the authors' model computes: it detaches
    the input of every attention, so that the gradient comes down residual paths and MLPs alone; for
    plain transformers without attention pooling, at the cost of another pass. In hierarchical
    models r is taken down residual paths to each layer and m to the finest grid; attention pooling
    of the head is one more layer and hands its weights on as r (no paper says so). ``backward``
    names rules of the backward pass.

    One row per layer: forward, backward and O(L N D) for class-token models, memory O(H N); a
    mean-pooled model needs every row. Refused, by name, where the scores of an operation that is
    read are not known (decomposed biases, gated weights).

    Leem & Seo, AAAI 2024. Their code needs its own model class, one image and a square grid.
    """

    class_specific: ClassVar[bool] = True
    attention: ClassVar[bool] = True
    walks: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "H b N"
    applies: ClassVar[str] = "attention over tokens with known scores"
    formula: ClassVar[str] = "sum_l,h r (G)^+ sigmoid(S)"
    paper: ClassVar[str] = "Leem & Seo, AAAI 2024"

    gradient: str = "full"
    start_layer: int = 0
    layers: Any = None
    query: Any = None
    backward: str = "plain"

    def __post_init__(self) -> None:
        if self.gradient not in GRADIENTS:
            raise UnsupportedMethodError(
                f"agcam: gradient={self.gradient!r} is neither 'full' nor 'published'."
                + suggestion(str(self.gradient), GRADIENTS)
            )
        rules_named(self.backward)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the method does not apply, or not with the published gradient."""
        refused = super().refusal(adapter, size)
        if refused or self.gradient == "full":
            return refused
        stream = adapter.stream()
        if isinstance(stream, Refusal):
            return f"{stream.reason}; gradient='full' needs none"
        if stream.pool is not None or any(block.between is None for block in stream.blocks):
            return (
                "the published gradient comes down residual paths and MLPs, which an attention "
                "pool or blocks with parallel branches do not have; use gradient='full'"
            )
        return None

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return two passes for the published gradient, else one."""
        del adapter, size
        return Passes(1, 1) if self.gradient == "full" else Passes(2, 2)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the sum over layers on the finest grid."""
        if self.gradient == "published":
            record = self._published(record)
        walk = Walk.of(record)
        chosen = choose(len(walk.layers), self.layers, self.start_layer)
        pooled = self.layers is None and self.query is None
        gathering = Gathering(walk, chosen, pooled, self.query)
        total, padding = gathering(_product, walk.start(self.query, geometries))
        layout = walk.chain.layout
        return Maps(
            layout.to_grid(total),
            layout.cell,
            warnings=padding_notes(padding),
            facts={"readout": walk.start_name(self.query), "layers": chosen},
            measured=[{"padding_mass": round(share, 6)} for share in padding.tolist()],
        )

    def _published(self, record: AttentionRecord) -> AttentionRecord:
        """Return the record with gradients that no attention handed down."""
        stream = record.adapter.stream()
        assert isinstance(stream, Stream)  # noqa: S101  refused before
        with record.again.live(record.inputs, sites=_sites(stream), rules=self.rules) as live:
            score = record.again.score_of(live.outputs, record.indices)
            found = _without_attention(live, stream, score)
        return replace(
            record,
            operations=tuple(replace(op, output_gradient=found.get(op.name)) for op in record),
        )


def _sites(stream: Stream) -> list[Site]:
    """Return where the stream is read behind attention and behind the MLP of each block."""
    return [s for block in stream.blocks for s in (block.between, block.after) if s is not None]


def _without_attention(
    live: LivePass, stream: Stream, score: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the gradient at each operation's output, the input of every attention detached.

    From the tokens behind a block to those between its attention and its MLP there is no attention,
    and past the attention the gradient goes on unchanged.
    """
    places = {operation.name: index for index, operation in enumerate(live.operations)}
    last = live.readings[stream.blocks[-1].after].live()
    (upstream,) = torch.autograd.grad(score.sum(), last, retain_graph=True)
    found: dict[str, torch.Tensor] = {}
    for block in reversed(stream.blocks):
        assert block.between is not None  # noqa: S101  refused before
        after, between = (live.readings[s].live() for s in (block.after, block.between))
        (upstream,) = torch.autograd.grad(after, between, upstream, retain_graph=True)
        pulled = (between * upstream).sum()  # whose gradient by ``between`` is ``upstream``
        found |= {name: live.gradient(pulled, places[name]) for name in block.operations}
    return found


def _product(operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
    """Return ``r sum_h (G)^+ sigmoid(S)``: (batch, query) -> (batch, key)."""
    result = operation.new_row(row)
    for rows in operation.blocks(row):
        if operation.query is None:
            raise UnsupportedMethodError(
                f"agcam needs the scores before the softmax, but of {operation.name} only the "
                "weights could be read; leave its layer out with layers=, or use grad_sam or gae."
            )
        part = gradient_of(operation, rows).clamp_(min=0).mul_(operation.scores(rows).sigmoid_())
        result += torch.einsum("bq,bhqk->bk", row[:, rows], part)
    return result
