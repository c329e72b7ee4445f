"""Control: noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from visattn.geometry import Geometry
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord


@METHODS.register("random")
@dataclass(frozen=True)
class Random(Method):
    """Uniform noise in [0, 1) on the model's grid, the control that every method must beat.

    The generator is seeded by the image's hash and ``seed``, so that an image has the same noise in
    every batch. Class-agnostic.
    """

    seed: int = 0

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return noise on the grid."""
        del geometries
        grid, cell = record.adapter.grid(record.size)
        values = torch.stack([self._noise(image.sha256, grid) for image in record.images])
        return Maps(values, cell, facts={"seed": self.seed})

    def _noise(self, sha256: str, grid: Sequence[int]) -> torch.Tensor:
        generator = torch.Generator().manual_seed((int(sha256[:12], 16) + self.seed) % 2**63)
        return torch.rand(*grid, generator=generator)
