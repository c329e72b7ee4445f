"""What the tokens of an attention operation mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from visattn.images import Size


@dataclass(frozen=True)
class TokenLayout:
    """Prefix tokens followed by a grid of patch tokens in row-major order.

    Attributes:
        prefix: what each leading token is (``class``, ``distillation``, ``register 1``, ...).
        grid: rows and columns of patch tokens.
        cell: height and width of one patch in pixels of the model's input.
    """

    prefix: tuple[str, ...]
    grid: Size
    cell: tuple[float, float]

    @property
    def patches(self) -> int:
        """Number of patch tokens."""
        return self.grid.height * self.grid.width

    @property
    def tokens(self) -> int:
        """Number of all tokens."""
        return len(self.prefix) + self.patches

    def to_grid(self, row: torch.Tensor) -> torch.Tensor:
        """Place the patch part of a row over tokens (batch, token) on (batch, row, col)."""
        return row[:, len(self.prefix) :].reshape(-1, *self.grid)

    def from_grid(self, grid: torch.Tensor) -> torch.Tensor:
        """Turn (batch, row, col) into a row over tokens (batch, token), zero on prefix tokens."""
        prefix = grid.new_zeros(grid.shape[0], len(self.prefix))
        return torch.cat([prefix, grid.reshape(grid.shape[0], -1)], dim=1)

    def token(self, row: int, col: int) -> int:
        """Return the index of the patch token at (row, col); raises IndexError outside the grid."""
        rows, cols = self.grid
        if not (0 <= row < rows and 0 <= col < cols):
            raise IndexError(f"cell (row {row}, col {col}) lies outside a grid of {rows} x {cols}")
        return len(self.prefix) + row * cols + col

    def uniform(self, prefix: bool = False) -> torch.Tensor:
        """Return the row (token,) that averages patch tokens, or all tokens with ``prefix``."""
        row = torch.ones(self.tokens)
        if not prefix:
            row[: len(self.prefix)] = 0
        return row / row.sum()

    def one(self, *tokens: int) -> torch.Tensor:
        """Return the row (token,) that averages the given tokens."""
        row = torch.zeros(self.tokens)
        row[list(tokens)] = 1 / len(tokens)
        return row
