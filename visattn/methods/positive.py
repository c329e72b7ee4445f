"""Positive relevance of an attention operation, ``E = mean_h (G * A)^+``, rows at a time."""

from __future__ import annotations

import torch

from visattn.errors import UnsupportedMethodError
from visattn.methods.treatment import masked
from visattn.methods.walk import Product
from visattn.observation import AttentionOperation, RowBlock


def positive(stays: torch.Tensor | None = None) -> Product:
    """Return the product ``r E`` with ``E = mean_h (G * A)^+``: (batch, query) -> (batch, key).

    ``stays`` (batch, key) hides columns of E as in `Treatment`.
    """

    def product(operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
        result = operation.new_row(row)
        for block in operation.row_blocks(row):
            relevance = masked(positive_rows(operation, block), stays)
            result += torch.einsum("bq,bqk->bk", row[:, block.rows], relevance)
        return result

    return product


def positive_rows(operation: AttentionOperation, block: RowBlock) -> torch.Tensor:
    """Return the rows (batch, row, key) of E in a block; the head mean comes behind the ReLU."""
    if block.gradient is None:
        raise UnsupportedMethodError(f"{operation.name} was observed without gradients.")
    return (block.attn * block.gradient).clamp_(min=0).mean(dim=1)
