"""A model whose attributions are known: its score is a weighted sum over its cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

import visattn
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.datasets import Dataset
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics import Cost, Metric, Verdict
from visattn.evaluation.sample import EVIDENCE, Excluded, Sample
from visattn.images import Size
from visattn.models.reference import transform

CELL, ROWS, COLS = 4, 4, 6
HEIGHT, WIDTH = CELL * ROWS, CELL * COLS


class Additive(nn.Module):
    """Class k is the sum over cells of weight k times the mean of the cell's values.

    Attributes:
        weights: (class, row, col), one for each cell.
    """

    num_classes = 3
    feature_info: ClassVar[list[dict[str, int]]] = [{"reduction": CELL}]  # the grid of controls

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights)
        self.first = nn.Conv2d(3, 3, CELL, stride=CELL, groups=3, bias=False)
        self.first.weight.data.fill_(1 / CELL**2)
        self.global_pool = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bij,kij->bk", self.global_pool(self.first(x)).mean(1), self.weights)


def additive(seed: int = 0) -> visattn.Model:
    """Return the model with random weights; its maps have ROWS x COLS cells."""
    weights = torch.randn(3, ROWS, COLS, generator=torch.Generator().manual_seed(seed))
    size = Size(HEIGHT, WIDTH)
    return visattn.load_model(Additive(weights), transform=transform(size), image_size=tuple(size))


@dataclass(frozen=True)
class Noise(Dataset):
    """Noise pictures; the evidence is the left half; some of them cannot be used."""

    truths: ClassVar[tuple[str, ...]] = (EVIDENCE, "label")

    count: int = 12
    broken: int = 0
    flat: int | None = None

    def samples(self, model: visattn.Model) -> Iterator[Sample | Excluded]:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[:, : WIDTH // 2] = True
        for index in range(self.broken):
            yield Excluded("unreadable image", f"broken {index}")
        for index in range(self.count):
            random = np.random.default_rng(index)
            pixels = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            if index == self.flat:
                pixels[:] = 127
            image = visattn.load_image(pixels)
            yield Sample(f"noise {index}", model.prepare(image), index % 3, index % 3,
                         {EVIDENCE: mask})  # fmt: skip


@dataclass(frozen=True)
class Brightness(Metric):
    """The mean of the map, after ``passes`` forward passes."""

    chance: ClassVar[str] = "0"
    needs: ClassVar[tuple[str, ...]] = (EVIDENCE,)
    formula: ClassVar[str] = "mean m"
    paper: ClassVar[str] = "nobody, nowhere, never"

    passes: int = 2

    def cost(self) -> Cost:
        return Cost(forward=self.passes)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        inputs = (case.tensor for case in cases for _ in range(self.passes))
        assert len(list(bench.outputs(inputs))) == self.passes * len(cases)
        return [Measured(float(case.found.grid.mean()), 0.0) for case in cases]


def lines_without_times(card: Any) -> list[Mapping[str, Any]]:
    from dataclasses import asdict

    times = ("seconds", "inside", "mapping")
    return [{k: v for k, v in asdict(row).items() if k not in times} for row in card.rows]
