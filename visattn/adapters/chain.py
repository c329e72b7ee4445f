"""The way back: from the tokens that the head reads to the grid, one attention step at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from visattn.adapters.layout import TokenLayout


@dataclass(frozen=True)
class Refusal:
    """Why something does not exist for a model, and what would work instead."""

    reason: str


@dataclass(frozen=True)
class Readout:
    """Which tokens the head reads.

    Attributes:
        description: in words, for captions and reports.
        row: weights (token,) over the stream's tokens, summing to 1; with ``pool``, over the
            pooling operation's queries instead.
        pool: name of the attention-pooling operation that is the first step, or None.
        reads_from: index of the first token that the pooling operation attends to.
    """

    description: str
    row: torch.Tensor
    pool: str | None = None
    reads_from: int = 0


@dataclass(frozen=True)
class Chain:
    """Residual attention blocks between the read-out and the token grid.

    Attributes:
        layout: meaning of the stream's tokens; the same before and after every block.
        readout: where the walk starts, or why the head reads no fixed row of tokens.
        blocks: names of the attention operations of each block, first block first; a block with
            parallel attention has several.
    """

    layout: TokenLayout
    readout: Readout | Refusal
    blocks: tuple[tuple[str, ...], ...]

    def expand(self, pooled: torch.Tensor) -> torch.Tensor:
        """Place a row over the tokens that the pooling operation read, the last ones, on all."""
        row = pooled.new_zeros(pooled.shape[0], self.layout.tokens)
        row[:, self.layout.tokens - pooled.shape[1] :] = pooled
        return row
