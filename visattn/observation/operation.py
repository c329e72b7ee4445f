"""AttentionOperation: one softmax attention that a model really computed, as a linear operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

BLOCK_BYTES = 4 * 2**20  # of one head-resolved block, so that it stays in the processor cache


class RowBlock(NamedTuple):
    """Complete rows of an attention operation.

    Attributes:
        rows: indices (row,) of the queries in this block.
        attn: attention weights (batch, head, row, key), each row summing to 1.
        gradient: derivative of the explained score by those weights, the same shape, or None.
    """

    rows: torch.Tensor
    attn: torch.Tensor
    gradient: torch.Tensor | None


@dataclass(frozen=True, eq=False)
class AttentionOperation:
    """``softmax(scale * query key^T + bias) value``, observed with its operands.

    A row whose keys are all masked has weights 0, as in torch's fused attention.

    The weights are recomputed from the operands, row block by row block, in at least float32
    whatever the model's dtype; nothing of size (query, key) is stored unless the operands could
    not be recovered, in which case the model's own weights are kept in ``explicit``.

    Attributes:
        name: dotted name of the module in which the operation happened.
        index: position in execution order, from 0.
        value: (batch, head, key, channel).
        output: the operation's own result (batch, head, query, channel).
        query, key: (batch, head, token, channel), after normalisation and rotary embedding; None
            where they could not be recovered and ``explicit`` holds the weights.
        scale: factor on ``query key^T``.
        bias: additive bias or mask, broadcastable to (batch, head, query, key), or None.
        explicit: the model's own weights (batch, head, query, key), or None.
        fused: whether a fused kernel computed it.
        output_gradient: derivative of the explained score by ``output``, or None.
    """

    name: str
    index: int
    value: torch.Tensor
    output: torch.Tensor
    query: torch.Tensor | None = None
    key: torch.Tensor | None = None
    scale: float = 1.0
    bias: torch.Tensor | None = None
    explicit: torch.Tensor | None = None
    fused: bool = True
    output_gradient: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sizes (batch, heads, queries, keys)."""
        batch, heads, queries = self.output.shape[:3]
        return batch, heads, queries, self.value.shape[2]

    def weights(self) -> torch.Tensor:
        """Return all attention weights (batch, head, query, key), rows summing to 1."""
        return self.rows(torch.arange(self.shape[2]))

    def rows(self, indices: torch.Tensor | list[int] | int) -> torch.Tensor:
        """Return the attention weights (batch, head, row, key) of the given queries."""
        chosen = torch.as_tensor(indices, device=self.value.device).reshape(-1)
        if self.query is None or self.key is None:
            assert self.explicit is not None  # noqa: S101  an invariant of the observer
            return wide(self.explicit[:, :, chosen])
        scores = (wide(self.query[:, :, chosen]) * self.scale) @ wide(self.key).transpose(-2, -1)
        if self.bias is None:
            return scores.softmax(dim=-1)
        one_row = self.bias.ndim < 2 or self.bias.shape[-2] == 1
        scores = scores + wide(self.bias if one_row else self.bias[..., chosen, :])
        hidden = scores.amax(dim=-1, keepdim=True) == float("-inf")
        return scores.softmax(dim=-1).masked_fill(hidden, 0.0)

    def row_blocks(self, relevance: torch.Tensor | None = None) -> Iterator[RowBlock]:
        """Yield the operation in blocks of complete rows.

        With ``relevance`` (batch, query), rows whose relevance is zero in the whole batch are left
        out: the last block of a class-token model costs one row.
        """
        batch, heads, queries, keys = self.shape
        chosen = torch.arange(queries, device=self.value.device)
        if relevance is not None:
            chosen = relevance.ne(0).any(dim=0).nonzero().reshape(-1)
        size = max(1, BLOCK_BYTES // (4 * batch * heads * keys))
        for start in range(0, len(chosen), size):
            rows = chosen[start : start + size]
            yield RowBlock(rows, self.rows(rows), self.gradient_rows(rows))

    def gradient_rows(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Return ``G_hij = <dO_hi, V_hj>``, the gradient of the weights' rows, or None.

        Exact for any mask or bias: the score depends on the weights only through the output.
        Shape (batch, head, row, key).
        """
        if self.output_gradient is None:
            return None
        return wide(self.output_gradient[:, :, rows]) @ wide(self.value).transpose(-2, -1)

    def left_multiply(self, relevance: torch.Tensor) -> torch.Tensor:
        """Return ``r A``, the head mean of the weights applied to a row: (batch, query) -> key."""
        relevance = relevance.to(wide(self.value).dtype)
        result = self.new_row(relevance)
        for block in self.row_blocks(relevance):
            chosen = relevance[:, None, None, block.rows]
            result += (chosen @ block.attn).mean(dim=1)[:, 0]
        return result

    def new_row(self, relevance: torch.Tensor) -> torch.Tensor:
        """Return a row (batch, key) of zeros with the dtype and device of ``relevance``."""
        return relevance.new_zeros(relevance.shape[0], self.shape[3])


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in the precision of all our sums: float64 stays, the rest is float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
