"""AttentionOperation: one softmax attention that a model really computed, as a linear operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch

from visattn.errors import CaptureError
from visattn.observation.arrangement import Arrangement

BLOCK_BYTES = 4 * 2**20  # of one head-resolved block, so that it stays in the processor cache
LEADING = ("query", "key", "value", "output", "bias", "explicit", "output_gradient")


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

    With talking heads the output is ``(mixing . softmax(...)) value``: `weights`, `rows` and their
    gradient are those of the softmax, whose rows sum to one, before heads are mixed.

    A row whose keys are all masked has weights 0, as in torch's fused attention. Operands of other
    ranks are brought to four axes: (batch, token, channel) is one head, and of five or more axes
    all but the last leading one are flattened into the batch.

    The weights are recomputed from the operands, row block by row block, in at least float32
    whatever the model's dtype; nothing of size (query, key) is stored unless the operands could
    not be recovered, in which case the weights that multiplied the value are kept in ``explicit``.

    Attributes:
        name: dotted name of the module in which the operation happened, unique in a pass: the
            second operation of a module is called ``name#2``, the third ``name#3``.
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
        mixing: talking heads: (head of the output, head of the weights), by which the weights of
            all heads are mixed before they multiply the value; None where heads stay apart.
        mixing_bias: (head of the output,), added to every mixed weight, or None.
        normalizer: what makes rows sum to one: "softmax", or "none" where the model changed the
            weights afterwards so that their rows have other sums.
        axis: what queries and keys are: "token", or "channel" in cross-covariance attention.
        projection: weight (channel of the stream, head * channel of the value) of the linear layer
            that reads the output with its heads side by side, or None where there is no such layer
            or something (a norm, a gate) stands between them.
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
    mixing: torch.Tensor | None = None
    mixing_bias: torch.Tensor | None = None
    normalizer: str = "softmax"
    axis: str = "token"
    projection: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Sizes (batch, heads, queries, keys); the heads are those of the weights."""
        batch, heads, queries = self.output.shape[:3]
        heads = heads if self.mixing is None else self.mixing.shape[1]
        return batch, heads, queries, self.value.shape[2]

    def arranged(self, batch: int, windows: int, order: str = "bwh") -> AttentionOperation:
        """Return the operation with leading axes (batch * windows, head).

        All axes before the tokens, row-major, are read as the product of the axes in ``order``,
        a permutation of b (``batch``), w (``windows``) and h (heads, what remains): "bwh" for
        windows that were folded into the batch, "bhw" for windows behind the heads or for batch
        and heads folded into one axis. Returns the operation itself where nothing changes.

        Raises `CaptureError` when the sizes do not divide, or when mixed heads would be torn apart.
        """
        arrangement = Arrangement.read(self.shape[:2], batch, windows, order)
        if arrangement.changes_nothing:
            return self
        if self.mixing is not None:
            raise CaptureError(
                f"{self.name} mixes its {self.shape[1]} heads; they cannot be arranged as "
                f"{arrangement.new}."
            )
        known = {field: getattr(self, field) for field in LEADING}
        brought: dict[str, Any] = {
            field: arrangement.bring(tensor)
            for field, tensor in known.items()
            if tensor is not None
        }
        return replace(self, **brought)

    def weights(self) -> torch.Tensor:
        """Return all attention weights (batch, head, query, key), rows summing to 1."""
        return self.rows(torch.arange(self.shape[2]))

    def rows(self, indices: torch.Tensor | list[int] | int) -> torch.Tensor:
        """Return the attention weights (batch, head, row, key) of the given queries."""
        chosen = torch.as_tensor(indices, device=self.value.device).reshape(-1)
        if self.query is None or self.key is None:
            assert self.explicit is not None  # noqa: S101  an invariant of the observer
            return self.explicit[:, :, chosen].to(wide(self.value).dtype)
        scores = self.scores(chosen)
        if self.bias is None:
            return scores.softmax(dim=-1)
        hidden = scores.amax(dim=-1, keepdim=True) == float("-inf")
        return scores.softmax(dim=-1).masked_fill(hidden, 0.0)

    def scores(self, rows: torch.Tensor) -> torch.Tensor:
        """Return ``scale * query key^T + bias`` (batch, head, row, key) of given queries (row,).

        Raises `CaptureError` where only the weights that came of it are known.
        """
        if self.query is None or self.key is None:
            raise CaptureError(
                f"{self.name}: query and key could not be read from what the model computed, only "
                "the weights, so the scores before the softmax are not known."
            )
        scores = (wide(self.query[:, :, rows]) * self.scale) @ wide(self.key).transpose(-2, -1)
        if self.bias is None:
            return scores
        one_row = self.bias.ndim < 2 or self.bias.shape[-2] == 1
        return scores + wide(self.bias if one_row else self.bias[..., rows, :])

    def row_blocks(self, relevance: torch.Tensor | None = None) -> Iterator[RowBlock]:
        """Yield the operation in blocks of complete rows.

        With ``relevance`` (batch, query), rows whose relevance is zero in the whole batch are left
        out: the last block of a class-token model costs one row.
        """
        queries, seen = self.shape[2], 0
        received = self.new_row(wide(self.value[:0]))
        for rows in self.blocks(relevance):
            attn = self.rows(rows)
            received += attn.sum(dim=2).mean(dim=1)
            seen += len(rows)
            yield RowBlock(rows, attn, self.gradient_rows(rows))
        if seen == queries:
            self.__dict__.setdefault("received", received / queries)

    def blocks(self, relevance: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Yield the rows (row,) of each block, without those that have no ``relevance``."""
        batch, heads, queries, keys = self.shape
        chosen = torch.arange(queries, device=self.value.device)
        if relevance is not None:
            chosen = relevance.ne(0).any(dim=0).nonzero().reshape(-1)
        size = max(1, BLOCK_BYTES // (4 * batch * heads * keys))
        for start in range(0, len(chosen), size):
            yield chosen[start : start + size]

    @cached_property
    def received(self) -> torch.Tensor:
        """Mean attention (batch, key) that keys receive, over heads and queries.

        A by-product of any walk that needed every row; else computed when it is asked for.
        """
        for _ in self.row_blocks():
            pass
        found: torch.Tensor = self.__dict__["received"]
        return found

    def gradient_rows(self, rows: torch.Tensor) -> torch.Tensor | None:
        """Return ``G_hij = <dO_hi, V_hj>``, the gradient of the weights' rows, or None.

        Exact for any mask or bias: the score depends on the weights only through the output. Mixed
        heads are followed back by the chain rule. Shape (batch, head, row, key).
        """
        if self.output_gradient is None:
            return None
        gradient = wide(self.output_gradient[:, :, rows]) @ wide(self.value).transpose(-2, -1)
        if self.mixing is None:
            return gradient
        return torch.einsum("oh,bork->bhrk", wide(self.mixing), gradient)

    def mixed(self, attn: torch.Tensor) -> torch.Tensor:
        """Return what multiplies the value: ``attn`` (batch, head, row, key), its heads mixed."""
        if self.mixing is None:
            return attn
        result = torch.einsum("oh,bhrk->bork", wide(self.mixing), attn)
        if self.mixing_bias is None:
            return result
        return result + wide(self.mixing_bias)[:, None, None]

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
        return relevance.new_zeros(self.shape[0], self.shape[3])


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor in the precision of all our sums: float64 stays, the rest is float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
