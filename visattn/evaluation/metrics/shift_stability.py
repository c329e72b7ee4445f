"""Shift stability: does the map move with the photo?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional

from visattn.errors import VisattnError
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.metrics.comparison import Comparison, first_excluded
from visattn.evaluation.metrics.metric import Cost, Verdict
from visattn.evaluation.metrics.registry import METRICS
from visattn.evaluation.rerun import Further, Wanted, kept_target, rerun
from visattn.evaluation.sample import Excluded
from visattn.evaluation.similarity import Grid
from visattn.models import Model
from visattn.options import require_at_least, require_choice

EDGE, MEAN, WRAP = FILLS = ("edge", "mean", "wrap")
DIRECTIONS = ((0, 1), (1, 0), (0, -1), (-1, 0))
Step = tuple[int, int]


@METRICS.register("shift_stability")
@dataclass(frozen=True)
class ShiftStability(Comparison):
    """Mean similarity of a map with those of the input shifted to four sides, where both see.

    ``1/4 sum_s sim(m(x), shift_-s(m(shift_s(x))))`` over right, down, left and up, each over the
    cells whose content is in both inputs, for the same class. The shift is the smallest that is a
    whole number of the map's cells and of the model's own (patches), ``patches`` times; excluded
    where there is none, or where it leaves fewer than half of the rows or columns. Depends on ranks
    only where ``similarity="spearman"`` and not ``absolute``.

    Attributes:
        patches: how many times the smallest shift.
        fill: what comes in: ``edge``, the outermost row or column repeated; ``mean``, the mean
            colour of the input; ``wrap``, what leaves on the other side.
    """

    chance: ClassVar[str] = "about 0"
    rank_only: ClassVar[bool] = True
    formula: ClassVar[str] = "1/4 sum_s sim(m(x), m(x shifted by s) shifted back), common cells"
    paper: ClassVar[str] = "visattn; stability as in Alvarez-Melis & Jaakkola, NeurIPS 2018"

    patches: int = 1
    fill: str = EDGE

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least("patches", self.patches, 1)
        require_choice("fill", self.fill, FILLS)

    def cost(self) -> Cost:
        """Return one map for each side; none for a case that is excluded."""
        return Cost(explanations=len(DIRECTIONS), at_most=True)

    def measure(self, bench: Bench, cases: Sequence[Case]) -> list[Verdict]:
        """Return the mean similarity over the four sides for each case."""
        steps = [self.step(bench.model, case) for case in cases]
        found = rerun(bench, self._wanted(bench.model, cases, steps))
        return [
            step
            if isinstance(step, Excluded)
            else self._verdict(case, step, [next(found) for _ in DIRECTIONS])
            for case, step in zip(cases, steps, strict=True)
        ]

    def step(self, model: Model, case: Case) -> Step | Excluded:
        """Return the shift down and to the right in cells of a case's map."""
        cell = case.found.geometry.grid_to_input.scale
        sides = []
        for axis in (0, 1):
            own = [cell[axis], *_patch(model, case, axis)]
            if not all(each >= 1 and float(each).is_integer() for each in own):
                return Excluded("cells are no whole pixels")
            pixels = math.lcm(*map(int, own)) * self.patches
            sides.append(pixels // int(cell[axis]))
        if any(
            2 * side > length for side, length in zip(sides, case.found.grid.shape, strict=True)
        ):
            return Excluded("too few cells for a shift")
        return sides[0], sides[1]

    def _wanted(
        self, model: Model, cases: Sequence[Case], steps: Sequence[Step | Excluded]
    ) -> Iterator[Wanted]:
        for case, step in zip(cases, steps, strict=True):
            if isinstance(step, Excluded):
                continue
            cell = case.found.geometry.grid_to_input.scale
            for way in DIRECTIONS:
                down, right = (int(w * s * c) for w, s, c in zip(way, step, cell, strict=True))
                moved = shifted(case.tensor, down, right, self.fill)
                yield case, model.prepare_tensor(moved), kept_target(case)

    def _verdict(self, case: Case, step: Step, maps: Sequence[Further]) -> Verdict:
        missing = first_excluded(maps)
        if missing is not None:
            return missing
        grids = [found.grid for found in maps if not isinstance(found, Excluded)]
        moves = [(way[0] * step[0], way[1] * step[1]) for way in DIRECTIONS]
        pairs = zip(moves, grids, strict=True)
        return self.compared(_common(case.found.grid, grid, *move) for move, grid in pairs)


def shifted(tensor: torch.Tensor, down: int, right: int, fill: str) -> torch.Tensor:
    """Return an input (channel, row, col) moved by pixels, with what comes in as ``fill`` says."""
    if fill == WRAP:
        return tensor.roll((down, right), (1, 2))
    rows, cols = tensor.shape[1:]
    pad = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    wide = functional.pad(tensor[None], pad, mode="replicate")[0]
    top, left = max(-down, 0), max(-right, 0)
    moved = wide[:, top : top + rows, left : left + cols].clone()
    if fill == MEAN:
        outside = torch.ones(rows, cols, dtype=torch.bool)
        outside[max(down, 0) : rows + min(down, 0), max(right, 0) : cols + min(right, 0)] = False
        moved[:, outside] = tensor.mean(dim=(1, 2))[:, None]
    return moved


def _common(own: Grid, other: Grid, down: int, right: int) -> tuple[Grid, Grid]:
    """Return the cells of two maps that show the same content, the other's moved by cells."""
    rows, cols = own.shape
    here = own[max(-down, 0) : rows - max(down, 0), max(-right, 0) : cols - max(right, 0)]
    there = other[max(down, 0) : rows + min(down, 0), max(right, 0) : cols + min(right, 0)]
    return np.asarray(here), np.asarray(there)


def _patch(model: Model, case: Case, axis: int) -> list[float]:
    """Return the size of the model's own cells; nothing for a model that has none."""
    try:
        return [model.adapter.grid(case.sample.size)[1][axis]]
    except VisattnError:
        return []
