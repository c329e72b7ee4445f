"""Control: noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.geometry import Geometry
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.seeding import generator
from visattn.observation import AttentionRecord


@METHODS.register("random")
@dataclass(frozen=True)
class Random(Method):
    """Uniform noise in [0, 1) on the model's grid, the control that every method must beat.

    The generator is seeded by the image's hash and ``seed``, so that an image has the same noise in
    every batch. Class-agnostic.
    """

    formula: ClassVar[str] = "uniform noise, seeded by the image"

    seed: int = 0

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return noise on the grid."""
        del geometries
        grid, cell = record.adapter.grid(record.size)
        noise = [torch.rand(*grid, generator=generator(i, self.seed)) for i in record.images]
        return Maps(torch.stack(noise), cell, facts={"seed": self.seed})
