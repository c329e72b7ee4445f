"""Control: the middle of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.geometry import Geometry
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord


@METHODS.register("center")
@dataclass(frozen=True)
class Center(Method):
    """Isotropic Gaussian at the centre of the model's input, the control for photographers' habits.

    ``exp(-d^2 / (2 s^2))`` with d the distance of a cell's centre from the input's centre in pixels
    and s a quarter of the shorter side. Values in 0..1. Class-agnostic.
    """

    formula: ClassVar[str] = "Gaussian at the centre"

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the Gaussian on the grid, the same for every image."""
        del geometries
        (rows, cols), cell = record.adapter.grid(record.size)
        height, width = record.size
        y = (torch.arange(rows) + 0.5) * cell[0] - height / 2
        x = (torch.arange(cols) + 0.5) * cell[1] - width / 2
        sigma = min(height, width) / 4
        bump = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * sigma**2))
        return Maps(bump.expand(record.batch, -1, -1), cell)
