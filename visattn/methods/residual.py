"""Residual: relevance that stays on its token beside what attention brings."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from visattn.adapters import Step
from visattn.methods.walk import Product, Walk


def kept(step: Step, row: torch.Tensor) -> torch.Tensor:
    """Return a row behind the residual path; nothing where the step has none."""
    if step.skip is None:
        return row.new_zeros(row.shape[0], step.before.tokens)
    return step.skip(row)


def added(
    walk: Walk,
    step: Step,
    row: torch.Tensor,
    products: Sequence[Product],
    lost: list[torch.Tensor],
) -> torch.Tensor:
    """Return ``r (I + sum B)``: (batch, token after) -> (batch, token before).

    ``products`` apply B of each operation of the step; none where its attention is not walked.
    """
    parts = [
        walk.through(placed, row, product, lost)
        for placed, product in zip(step.placements, products, strict=False)
    ]
    return torch.stack([kept(step, row), *parts]).sum(dim=0)
