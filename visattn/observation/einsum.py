"""Einsum: an equation over two tensors, read as a product of matrices."""

from __future__ import annotations

import string
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Reading:
    """An equation whose two factors share the letters that are summed.

    Attributes:
        left, right: the factors; weights stand on the left.
        letters: of left, right and result.
        shared: letters of both factors that stay.
        heads, rows: letters of the left factor alone; of several the rows are those that are as
            many as the summed ones, or else the largest.
        summed: letters of both factors that are summed.
        columns: letters of the right factor alone.
    """

    left: torch.Tensor
    right: torch.Tensor
    letters: tuple[str, str, str]
    shared: str
    heads: str
    rows: str
    summed: str
    columns: str

    @property
    def left_matrix(self) -> torch.Tensor:
        """The left factor (shared, head, row, summed)."""
        return _arranged(
            self.left, self.letters[0], self.shared + self.heads, self.rows, self.summed
        )

    @property
    def right_matrix(self) -> torch.Tensor:
        """The right factor (shared, 1 per head, summed, column)."""
        matrix = _arranged(self.right, self.letters[1], self.shared, self.summed, self.columns)
        lead = matrix.shape[: len(self.shared)]
        return matrix.reshape(*lead, *(1 for _ in self.heads), *matrix.shape[-2:])

    def bring(self, result: torch.Tensor) -> torch.Tensor:
        """Return a tensor like the result as (shared, head, row, column)."""
        return _arranged(result, self.letters[2], self.shared + self.heads, self.rows, self.columns)

    @property
    def left_order(self) -> tuple[int, ...] | None:
        """The axes of the left factor in the order of `left_matrix`, or None if it adds one."""
        letters = self.shared + self.heads + self.rows + self.summed
        single = len(self.rows) == len(self.summed) == 1
        return tuple(self.letters[0].index(letter) for letter in letters) if single else None

    @property
    def is_matrix_product(self) -> bool:
        """Whether the result is (shared, row, column) as a matrix product would give it."""
        return not self.heads and self.letters[2] == self.shared + self.rows + self.columns


def read(equation: str, left: torch.Tensor, right: torch.Tensor, *, swap: bool) -> Reading | None:
    """Read ``equation``; with ``swap`` the second factor is the left one.

    None where an index repeats within a factor, the result is implicit, or a letter is summed
    within one factor alone.
    """
    letters = _letters(equation, left.ndim, right.ndim)
    if letters is None:
        return None
    first, second, out = letters
    if swap:
        left, right, first, second = right, left, second, first
    shared = "".join(c for c in first if c in second and c in out)
    summed = "".join(c for c in first if c in second and c not in out)
    rows = "".join(c for c in out if c in first and c not in second)
    columns = "".join(c for c in out if c in second and c not in first)
    if len(shared + summed + rows) != len(first) or len(shared + summed + columns) != len(second):
        return None
    heads = ""
    if len(rows) > 1 and len(summed) == 1:
        keys = left.shape[first.index(summed)]
        size = {letter: left.shape[first.index(letter)] for letter in rows}
        query = max(rows, key=lambda letter: (size[letter] == keys, size[letter]))
        heads, rows = rows.replace(query, ""), query
    return Reading(left, right, (first, second, out), shared, heads, rows, summed, columns)


def _letters(equation: str, *ranks: int) -> tuple[str, str, str] | None:
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    factors = inputs.split(",")
    if not arrow or len(factors) != 2:
        return None
    free = [letter for letter in string.ascii_letters if letter not in equation]
    counts = [rank - len(f.replace("...", "")) for f, rank in zip(factors, ranks, strict=True)]
    most = max((n for f, n in zip(factors, counts, strict=True) if "..." in f), default=0)
    spare = "".join(free[:most])
    first, second = (
        factor.replace("...", spare[most - count :] if "..." in factor else "")
        for factor, count in zip(factors, counts, strict=True)
    )
    out = out.replace("...", spare)
    repeated = any(len(set(part)) != len(part) for part in (first, second, out))
    return None if repeated else (first, second, out)


def _arranged(
    tensor: torch.Tensor, letters: str, lead: str, rows: str, columns: str
) -> torch.Tensor:
    ordered = tensor.permute([letters.index(letter) for letter in lead + rows + columns])
    shape = ordered.shape[: len(lead)]
    middle = ordered.shape[len(lead) : len(lead) + len(rows)]
    return ordered.reshape(*shape, middle.numel(), ordered.shape[len(lead) + len(rows) :].numel())
