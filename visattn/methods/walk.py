"""Walking from the tokens that the head reads, or from a query, down the steps of a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from visattn.adapters import Chain, Placement, Refusal, Step, TokenLayout
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.observation import AttentionOperation, AttentionRecord
from visattn.query import cells

PADDING_TO_WARN = 0.1
Product = Callable[[AttentionOperation, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Walk:
    """One record's chain, with the operations that belong to it."""

    record: AttentionRecord
    chain: Chain

    @classmethod
    def of(cls, record: AttentionRecord) -> Walk:
        """Return the walk of a record; raises where the family has none."""
        return cls(record, record.chain())

    @property
    def layers(self) -> tuple[int, ...]:
        """Places among the chain's steps of those with attention."""
        return self.chain.layers

    def steps(self, query: Any, chosen: Collection[int]) -> Iterator[tuple[Step, bool]]:
        """Yield the steps from the last to the first, with whether attention is walked in them.

        ``chosen`` are layers; in the others relevance takes the residual path alone, if there is
        one. The head's pooling comes first unless the walk starts at a ``query``.
        """
        if self.chain.pool is not None and query is None:
            yield self.chain.pool, True
        walked = {self.layers[layer] for layer in chosen}
        for place in reversed(range(len(self.chain.steps))):
            step = self.chain.steps[place]
            yield step, bool(step.placements) and (place in walked or step.skip is None)

    def place(self, step: Step) -> int:
        """Return where a step stands in the chain; the head's pooling stands behind all others."""
        steps = (*self.chain.steps, self.chain.pool)
        return next(index for index, each in enumerate(steps) if each is step)

    def operation(self, placement: Placement) -> AttentionOperation:
        """Return the operation of a placement, windows in its batch axis."""
        return self.record.placed(placement)

    def through(
        self,
        placement: Placement,
        row: torch.Tensor,
        product: Product,
        lost: list[torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return ``row Q X K``: (batch, token after) -> (batch, token before).

        Q and K place tokens in query slots and key slots; ``product`` applies the operation, or
        a matrix X made of it, to rows (batch * window, query). What falls on padding is added to
        ``lost`` (batch,).
        """
        slots = placement.queries(row).reshape(-1, placement.slots[0])
        keys = product(self.operation(placement), slots).reshape(row.shape[0], -1)
        if lost is not None:
            lost.append(keys @ (1 - placement.keys.sums).to(keys))
        return placement.keys(keys)

    def attended(self, step: Step, row: torch.Tensor) -> torch.Tensor:
        """Return ``r A``: attention alone, mean over heads and over parallel operations."""
        parts = [
            self.through(placed, row, lambda op, slots: op.left_multiply(slots))
            for placed in step.placements
        ]
        return torch.stack(parts).mean(dim=0)

    def received(self, step: Step) -> torch.Tensor | None:
        """Return the attention (batch, token before) that each token gets: ``1/(H N) sum A``.

        The mean is over heads and over the N tokens that attend. None where patch tokens do not
        attend to each other: class attention and attention pooling.
        """
        place = self.place(step)
        attending = torch.stack([placed.queries.sums for placed in step.placements]).amax(dim=0)
        if step is self.chain.pool or not attending[self.chain.after(place).places].any():
            return None
        row = self._batched(attending / attending.sum())
        parts = [self.through(placed, row, _received) for placed in step.placements]
        return torch.stack(parts).mean(dim=0)

    def start(self, query: Any, geometries: Sequence[Geometry]) -> torch.Tensor:
        """Return the row (batch, token) in which the walk starts, in at least float32.

        Without a query these are the tokens that the head reads, or the queries of its attention
        pooling; with one, tokens of the last stream.
        """
        if query is not None:
            return self.asked(query, geometries, self.chain.end, self.chain.layout)
        readout = self.chain.readout
        if isinstance(readout, Refusal):
            raise UnsupportedMethodError(f"{readout.reason}.")
        return self._batched(readout.row)

    def start_name(self, query: Any) -> str:
        """Return in words where the walk starts."""
        readout = self.chain.readout
        if query is None and not isinstance(readout, Refusal):
            return readout.description
        return f"query {query}"

    def asked(
        self, query: Any, geometries: Sequence[Geometry], layout: TokenLayout, shown: TokenLayout
    ) -> torch.Tensor:
        """Return the row (batch, token) of a query over the tokens of ``layout``.

        (row, col) is a cell of the grid ``shown``, that of the map; on a coarser grid the token
        that covers it is meant.
        """
        if query == "mean":
            return self._batched(layout.uniform())
        if isinstance(query, str):
            return self._batched(layout.one(self._named(query, layout)))
        placed = [g.with_grid(shown.grid, shown.cell) for g in geometries]
        try:
            tokens = [layout.covering(*cell, shown) for cell in cells(query, placed)]
        except (ValueError, IndexError) as error:
            raise UnsupportedMethodError(f"query={query!r}: {error}.") from error
        return torch.stack([layout.one(token) for token in tokens]).to(self._like())

    def pulled(self, row: torch.Tensor, top: int, bottom: int) -> torch.Tensor:
        """Return a row behind step ``top - 1`` taken down residual paths to before ``bottom``."""
        for place in reversed(range(bottom, top)):
            row = self.chain.steps[place].residual(row)
        return row

    def _named(self, query: str, layout: TokenLayout) -> int:
        name = "class" if query == "cls" else query
        if name not in layout.prefix:
            known = ", ".join(layout.prefix[:3]) + (", ..." if len(layout.prefix) > 3 else "")
            raise UnsupportedMethodError(
                f"query={query!r}: this model has no such token (prefix tokens: "
                f"{known or 'none'}); use one of these, 'mean' or (row, col)."
            )
        return layout.prefix.index(name)

    def _batched(self, row: torch.Tensor) -> torch.Tensor:
        return row.to(self._like()).expand(self.record.batch, -1)

    def _like(self) -> torch.Tensor:
        first = self.record.operations[0].value
        wide = first.dtype if first.dtype == torch.float64 else torch.float32
        return torch.empty(0, dtype=wide, device=first.device)


def _received(operation: AttentionOperation, slots: torch.Tensor) -> torch.Tensor:
    """Return ``slots A``; equal slots are what a walk has already summed up on its way."""
    share = slots[:, :1]
    if torch.equal(slots, share.expand_as(slots)):
        return share * slots.shape[1] * operation.received
    return operation.left_multiply(slots)


def padding_mass(lost: Sequence[torch.Tensor], kept: torch.Tensor) -> torch.Tensor:
    """Return the share (batch,) of relevance that padding took, of that and ``kept`` (batch,)."""
    if not lost:
        return torch.zeros_like(kept)
    gone = torch.stack(list(lost)).sum(dim=0).clamp(min=0)
    return gone / (gone + kept).clamp(min=torch.finfo(kept.dtype).tiny)


def padding_notes(shares: torch.Tensor) -> list[list[str]]:
    """Return, for each image, a note where padding took more than `PADDING_TO_WARN`."""
    return [
        [f"{share:.0%} of the relevance went to padding, which has no place in the image"]
        if share > PADDING_TO_WARN
        else []
        for share in shares.tolist()
    ]
