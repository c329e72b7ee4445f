"""Step: one block of a model as a linear operator on a row of relevance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from visattn.errors import CaptureError
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex


@dataclass(frozen=True, eq=False)
class Placement:
    """Which tokens of the stream stand in the slots of one attention operation.

    Attributes:
        operation: name of the operation.
        queries: (token after the step, window * query): the slots whose output a token receives;
            rows sum to 1 for tokens that attend and to 0 for tokens that do not.
        keys: (window * key, token before the step): the tokens that a key was made of; rows sum to
            1, to 0 for padding.
        windows: number of windows that each image is cut into.
        order: the axes of the operation before (query, key) as the model lays them out: ``b``
            image, ``w`` window, ``h`` head.
        prefix: number of leading slots of a window that hold prefix tokens.
        origin: (window * query, token before) the tokens that a query was made of, where the step
            has no residual path that says so (attention that subsamples).
    """

    operation: str
    queries: Reindex
    keys: Reindex
    windows: int = 1
    order: str = "bwh"
    prefix: int = 0
    origin: Reindex | None = None

    @classmethod
    def whole(cls, operation: str, layout: TokenLayout) -> Placement:
        """Return global self-attention: every token is one query and one key."""
        every = Reindex.identity(layout.tokens)
        return cls(operation, every, every, prefix=len(layout.prefix))

    @classmethod
    def windowed(
        cls, operation: str, index: torch.Tensor, tokens: int, order: str = "bwh"
    ) -> Placement:
        """Return self-attention inside windows; ``index`` (window, slot) holds tokens or -1."""
        keys = Reindex.gather(index, tokens)
        return cls(operation, keys.transposed(), keys, index.shape[0], order)

    @property
    def slots(self) -> tuple[int, int]:
        """Number of queries and of keys in one window."""
        return self.queries.size[1] // self.windows, self.keys.size[0] // self.windows


@dataclass(frozen=True, eq=False)
class Step:
    """One residual attention block, or a mere re-indexing of the stream.

    Attributes:
        before: meaning of the stream's tokens before the step.
        placements: the attention operations of the block; several in a block with parallel
            attention; none where the step only moves tokens (patch merging, strided convolution).
        skip: the residual path (token after, token before); None where the block has none.
    """

    before: TokenLayout
    placements: tuple[Placement, ...] = ()
    skip: Reindex | None = None

    @property
    def residual(self) -> Reindex:
        """Where tokens come from but for attention: the residual path, or their queries' origin."""
        if self.skip is not None:
            return self.skip
        first = self.placements[0]
        if first.origin is None:
            raise CaptureError(
                f"{first.operation} has no residual path and does not say what its queries were "
                "made of; declare Placement.origin."
            )
        return first.queries.then(first.origin)

    @classmethod
    def attention(cls, layout: TokenLayout, *operations: str) -> Step:
        """Return a residual block of global self-attention over all tokens of ``layout``."""
        placements = tuple(Placement.whole(name, layout) for name in operations)
        return cls(layout, placements, Reindex.identity(layout.tokens))

    @classmethod
    def block(cls, layout: TokenLayout, *placements: Placement) -> Step:
        """Return a residual block whose stream keeps its tokens."""
        return cls(layout, placements, Reindex.identity(layout.tokens))


def since_attention(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps from the first attention on: the walk ends on the grid it works on."""
    first = next(place for place, step in enumerate(steps) if step.placements)
    return tuple(steps[first:])
