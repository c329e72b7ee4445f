"""Feedback: the positive gradient of the last attention, averaged on the way to the image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Chain, Refusal, Step, chain_of
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.path import PathGradient, follow
from visattn.methods.walk import Walk, padding_mass, padding_notes
from visattn.observation import AttentionRecord


@dataclass(frozen=True)
class FeedbackMap(Method):
    """Relevance that a walk brought to the tokens, times the feedback of the last attention.

    ``m = p * F`` on the patches, p the walk's row and ``F = r mean_h ( mean_k G_h(x_k) )^+``: the
    gradient of the last layer's attention weights is averaged over K = ``steps`` images ``x_k =
    a_k x``, a from 0 to 1 with both ends, in the model's normalised input space (so the path begins
    at the mean colour), clamped per head, then averaged over heads. r is the read-out row or a
    query. Where the head pools by attention, that pooling is the last layer. In hierarchical models
    F is taken down residual paths to the grid of p.

    Attributes:
        start_layer: the first layer of the walk.
        steps: K, at least 2; the last is the explained pass itself.
        chunk: images in one pass on the path.
        query: where the walk starts, in place of what the head reads.
        backward: rules of the backward pass.
    """

    class_specific: ClassVar[bool] = True
    attention: ClassVar[bool] = True
    walks: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "H b N + K N D"
    applies: ClassVar[str] = "attention over tokens"

    start_layer: int = 0
    steps: int = 20
    chunk: int = 16
    query: Any = None
    backward: str = "plain"

    def __post_init__(self) -> None:
        for name, least in (("steps", 2), ("chunk", 1)):
            value = getattr(self, name)
            if value < least:
                raise UnsupportedMethodError(f"{name}={value!r} is not at least {least}.")

    @abstractmethod
    def perceived(
        self, walk: Walk, row: torch.Tensor, chosen: Sequence[int], lost: list[torch.Tensor]
    ) -> torch.Tensor:
        """Return p (batch, token) over the finest grid's tokens for a walk that starts in ``row``.

        What falls on padding is added to ``lost``.
        """

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the method does not apply to a model, or None."""
        reason = super().refusal(adapter, size)
        chain = chain_of(adapter, size)
        if reason is not None or isinstance(chain, Refusal):
            return reason
        if chain.crossed:
            return (
                "its walk is written for self-attention, and a decoder's queries read this model's "
                "image by cross-attention"
            )
        if self.query is not None and not chain.layers:
            return (
                "its only attention is the pooling of its head, which a walk from a query leaves "
                "out"
            )
        if self.query is None and not isinstance(chain.readout, Refusal):
            return unattending(chain, chain.readout.row[None], None)
        return None

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return one pass for each point of the path; the explained pass is the last of them."""
        chain = chain_of(adapter, size)
        parallel = 1
        if isinstance(chain, Chain) and (chain.layers or chain.pool):
            parallel = len(last_step(chain, self.query).placements)
        return Passes(self.steps, 1 + (self.steps - 1) * parallel)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return perception times feedback on the grid."""
        walk = Walk.of(record)
        start = walk.start(self.query, geometries)
        chosen = choose(len(walk.layers), None, self.start_layer)
        step = last_step(walk.chain, self.query)
        reason = unattending(walk.chain, start, self.query)
        if reason is not None:
            raise UnsupportedMethodError(f"{walk.start_name(self.query)}: {reason}.")
        lost: list[torch.Tensor] = []
        perceived = self.perceived(walk, start, chosen, lost)
        padding = padding_mass(lost, perceived.sum(dim=1))
        layout = walk.chain.layout
        return Maps(
            layout.to_grid(perceived * self._feedback(walk, step, start)),
            layout.cell,
            warnings=padding_notes(padding),
            facts={
                "readout": walk.start_name(self.query),
                "layers": chosen,
                "baseline": "zero in normalised space",
                "feedback": ", ".join(placed.operation for placed in step.placements),
            },
            measured=[{"padding_mass": round(share, 6)} for share in padding.tolist()],
        )

    def _feedback(self, walk: Walk, step: Step, start: torch.Tensor) -> torch.Tensor:
        """Return ``r F`` (batch, token) on the finest grid's tokens."""
        place = walk.place(step)
        row = walk.pulled(start, len(walk.chain.steps), min(place + 1, len(walk.chain.steps)))
        means = [PathGradient.of(walk, placed, row, self.steps) for placed in step.placements]
        follow(walk.record, means, self.rules, self.chunk)
        parts = [walk.through(mean.placement, row, mean.positive) for mean in means]
        return walk.pulled(torch.stack(parts).mean(dim=0), place, 0)


def last_step(chain: Chain, query: Any) -> Step:
    """Return the last step with attention: the head's pooling unless the walk starts elsewhere."""
    if chain.pool is not None and query is None:
        return chain.pool
    return chain.steps[chain.layers[-1]]


def unattending(chain: Chain, row: torch.Tensor, query: Any) -> str | None:
    """Return why a row (batch, token) that starts a walk does not read the last attention whole."""
    step = last_step(chain, query)
    if step is chain.pool:
        return None
    for later in reversed(chain.steps[chain.layers[-1] + 1 :]):
        row = later.residual(row)
    attends = torch.stack([placed.queries.sums for placed in step.placements]).amax(dim=0)
    shares = (row.double() @ attends.to(row.device)) / row.double().sum(dim=1)
    if float(shares.min()) > 1 - 1e-4:
        return None
    names = ", ".join(placed.operation for placed in step.placements)
    return (
        f"only {float(shares.min()):.0%} of it attends in the last attention ({names}), so the "
        "feedback of that attention is not that of the whole score"
    )
