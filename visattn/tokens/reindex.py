"""Reindex: relevance moved from one set of tokens to another, as a sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Reindex:
    """Non-negative shares (token after, token before); applied to a row from the left.

    Entry e says that token ``rows[e]`` hands the share ``shares[e]`` of its relevance to token
    ``columns[e]``. Rows that sum to 1 conserve relevance; a row that sums to less loses the rest
    to padding.

    Attributes:
        rows, columns: (entry,), no pair twice.
        shares: (entry,), float64.
        size: number of tokens that give and that receive.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    shares: torch.Tensor
    size: tuple[int, int]

    @classmethod
    def identity(cls, tokens: int) -> Reindex:
        """Return the matrix that leaves every token where it is."""
        return cls.gather(torch.arange(tokens), tokens)

    @classmethod
    def gather(cls, index: torch.Tensor, tokens: int) -> Reindex:
        """Return the matrix whose row i hands all to token ``index[i]``, or loses it where -1."""
        flat = index.reshape(-1)
        rows = (flat >= 0).nonzero().reshape(-1)
        shares = torch.ones(len(rows), dtype=torch.float64)
        return cls(rows, flat[rows], shares, (len(flat), tokens))

    @classmethod
    def dense(cls, matrix: torch.Tensor, *, normalised: bool = False) -> Reindex:
        """Return the sparse form of a matrix; with ``normalised``, rows are divided by sums."""
        wide = matrix.double()
        if normalised:
            sums = wide.sum(dim=1, keepdim=True)
            wide = wide / sums.where(sums > 0, 1.0)
        rows, columns = wide.nonzero().unbind(dim=1)
        return cls(rows, columns, wide[rows, columns], (wide.shape[0], wide.shape[1]))

    def __call__(self, row: torch.Tensor) -> torch.Tensor:
        """Return ``row M``: (batch, token after) -> (batch, token before)."""
        moved = row[:, self.rows.to(row.device)] * self.shares.to(row)
        into = row.new_zeros(row.shape[0], self.size[1])
        return into.index_add_(1, self.columns.to(row.device), moved)

    @property
    def sums(self) -> torch.Tensor:
        """Sums of the matrix's rows (token after,): 1 where all relevance is handed on."""
        sums = torch.zeros(self.size[0], dtype=torch.float64)
        return sums.index_add_(0, self.rows, self.shares)

    def matrix(self) -> torch.Tensor:
        """Return the dense matrix (token after, token before), float64."""
        full = torch.zeros(self.size, dtype=torch.float64)
        return full.index_put_((self.rows, self.columns), self.shares, accumulate=True)

    def transposed(self) -> Reindex:
        """Return the transpose, as it is: its rows need not sum to 1."""
        return Reindex(self.columns, self.rows, self.shares, (self.size[1], self.size[0]))

    def normalised(self) -> Reindex:
        """Return the matrix with each row divided by its sum; empty rows stay empty."""
        return Reindex(self.rows, self.columns, self.shares / self.sums[self.rows], self.size)

    def then(self, other: Reindex) -> Reindex:
        """Return the product: this matrix first, ``other`` on what it gives."""
        product = (self._sparse() @ other._sparse()).tocoo()
        rows, columns = (torch.from_numpy(index.astype("int64")) for index in product.coords)
        shares = torch.from_numpy(product.data)
        return Reindex(rows, columns, shares, (self.size[0], other.size[1]))

    def beside(self, other: Reindex) -> Reindex:
        """Return the block-diagonal matrix: this for the first tokens, ``other`` for the rest."""
        return Reindex(
            torch.cat([self.rows, other.rows + self.size[0]]),
            torch.cat([self.columns, other.columns + self.size[1]]),
            torch.cat([self.shares, other.shares]),
            (self.size[0] + other.size[0], self.size[1] + other.size[1]),
        )

    def behind(self, prefix: int) -> Reindex:
        """Return the matrix for a stream with ``prefix`` leading tokens that stay themselves."""
        return Reindex.identity(prefix).beside(self) if prefix else self

    def _sparse(self) -> Any:
        from scipy.sparse import coo_array

        places = (self.rows.numpy(), self.columns.numpy())
        return coo_array((self.shares.numpy(), places), shape=self.size).tocsr()
