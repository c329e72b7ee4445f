"""Walking from the tokens that the head reads, or from a query, down the attention blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from visattn.adapters import Chain, Readout, Refusal
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.observation import AttentionOperation, AttentionRecord
from visattn.query import cells

Operations = Sequence[AttentionOperation]
Step = Callable[[Operations, torch.Tensor], torch.Tensor]


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
    def blocks(self) -> list[Operations]:
        """Attention operations of each block, first block first."""
        return [[self.record[name] for name in block] for block in self.chain.blocks]

    @property
    def pool(self) -> AttentionOperation | None:
        """The attention-pooling operation of the head, if it has one."""
        readout = self.chain.readout
        name = readout.pool if isinstance(readout, Readout) else None
        return None if name is None else self.record[name]

    def start(self, query: Any, geometries: Sequence[Geometry], pool: Step) -> torch.Tensor:
        """Return the row r0 (batch, token) in which the walk starts, in at least float32.

        Without a query these are the tokens that the head reads; where it reads them through
        attention pooling, ``pool`` takes its latent's row to the tokens, without an identity.
        """
        if query is not None:
            return self._query(query, geometries)
        readout = self.chain.readout
        if isinstance(readout, Refusal):
            raise UnsupportedMethodError(f"{readout.reason}.")
        row = self._batched(readout.row)
        if self.pool is None:
            return row
        return self.chain.expand(pool([self.pool], row))

    def start_name(self, query: Any) -> str:
        """Return in words where the walk starts."""
        readout = self.chain.readout
        if query is None and isinstance(readout, Readout):
            return readout.description
        return f"query {query}"

    def _query(self, query: Any, geometries: Sequence[Geometry]) -> torch.Tensor:
        layout = self.chain.layout
        if query == "mean":
            return self._batched(layout.uniform())
        if query == "cls":
            if "class" not in layout.prefix:
                raise UnsupportedMethodError(
                    f"query='cls': this model has no class token (prefix tokens: "
                    f"{', '.join(layout.prefix) or 'none'}); use 'mean' or (row, col)."
                )
            return self._batched(layout.one(layout.prefix.index("class")))
        try:
            tokens = [layout.token(*cell) for cell in cells(query, geometries)]
        except (ValueError, IndexError) as error:
            raise UnsupportedMethodError(f"query={query!r}: {error}.") from error
        rows = torch.stack([layout.one(token) for token in tokens])
        return rows.to(self._like())

    def _batched(self, row: torch.Tensor) -> torch.Tensor:
        return row.to(self._like()).expand(self.record.batch, -1)

    def _like(self) -> torch.Tensor:
        first = self.record.operations[0].value
        wide = first.dtype if first.dtype == torch.float64 else torch.float32
        return torch.empty(0, dtype=wide, device=first.device)


def mean_step(operations: Operations, row: torch.Tensor) -> torch.Tensor:
    """Return ``r A``, the mean over heads and parallel operations: (batch, query) -> key."""
    return torch.stack([op.left_multiply(row) for op in operations]).mean(dim=0)
