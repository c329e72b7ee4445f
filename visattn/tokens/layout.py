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
        suffix: number of further tokens behind the grid, which lie on another grid (the second
            branch of CrossViT).
    """

    prefix: tuple[str, ...]
    grid: Size
    cell: tuple[float, float]
    suffix: int = 0

    @property
    def patches(self) -> int:
        """Number of patch tokens."""
        return self.grid.height * self.grid.width

    @property
    def tokens(self) -> int:
        """Number of all tokens."""
        return len(self.prefix) + self.patches + self.suffix

    @property
    def places(self) -> slice:
        """Where the patch tokens stand among all tokens."""
        return slice(len(self.prefix), len(self.prefix) + self.patches)

    def to_grid(self, row: torch.Tensor) -> torch.Tensor:
        """Place the patch part of a row over tokens (batch, token) on (batch, row, col)."""
        return row[:, self.places].reshape(-1, *self.grid)

    def coarser(self, grid: Size, prefix: tuple[str, ...] | None = None) -> TokenLayout:
        """Return the layout of a coarser grid over the same pixels; the prefix stays or is given.

        Cells grow by the ratio of the grids, rounded to the whole stride that produced them.
        """
        height, width = (
            self.cell[axis] * max(1, round(self.grid[axis] / grid[axis])) for axis in (0, 1)
        )
        return TokenLayout(self.prefix if prefix is None else prefix, grid, (height, width))

    def token(self, row: int, col: int) -> int:
        """Return the index of the patch token at (row, col); raises IndexError outside the grid."""
        rows, cols = self.grid
        if not (0 <= row < rows and 0 <= col < cols):
            raise IndexError(f"cell (row {row}, col {col}) lies outside a grid of {rows} x {cols}")
        return len(self.prefix) + row * cols + col

    def covering(self, row: int, col: int, shown: TokenLayout) -> int:
        """Return the patch token that covers the centre of cell (row, col) of another layout.

        Raises IndexError outside the other layout's grid.
        """
        shown.token(row, col)
        own = (
            min(int((index + 0.5) * cell / size), count - 1)
            for index, cell, size, count in zip(
                (row, col), shown.cell, self.cell, self.grid, strict=True
            )
        )
        return self.token(*own)

    def uniform(self, prefix: bool = False) -> torch.Tensor:
        """Return the row (token,) that averages patch tokens, or all tokens with ``prefix``."""
        row = torch.zeros(self.tokens)
        row[slice(None) if prefix else self.places] = 1
        return row / row.sum()

    def one(self, *tokens: int) -> torch.Tensor:
        """Return the row (token,) that averages the given tokens."""
        row = torch.zeros(self.tokens)
        row[list(tokens)] = 1 / len(tokens)
        return row
