"""Deletion and insertion as docs/evidence.md has them: of every map, also of one without signal.

Evaluations use the metrics `deletion` and `insertion`, which take the own values of a map's cells
where units consist of such, and exclude maps without signal by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from visattn.errors import ConfigError
from visattn.saliency import SaliencyMap

Scores = Callable[[torch.Tensor], torch.Tensor]
KERNEL, SIGMA = 11, 5.0
CHUNK = 8


@dataclass(frozen=True, eq=False)
class Curve:
    """Scores along a perturbation.

    Attributes:
        scores: (step,), the first before anything was changed.
    """

    scores: np.ndarray

    @property
    def area(self) -> float:
        """``(sum_k y_k - y_0 / 2 - y_K / 2) / K``, the mean height of the curve."""
        return float(np.trapezoid(self.scores) / (len(self.scores) - 1))


def units(found: SaliencyMap, unit: int, seed: int = 0) -> np.ndarray:
    """Return the units of ``unit`` x ``unit`` input pixels, most relevant first (unit,).

    Counted row by row. A unit's relevance is the sum of the map over it, bilinear on the input;
    ties are broken at random from ``seed``. Raises `ConfigError` where units do not fill the input.
    """
    values = found.on_input().astype(np.float64)
    height, width = values.shape
    if height % unit or width % unit:
        raise ConfigError(f"Units of {unit} pixels do not fill an input of {height} x {width}.")
    sums = values.reshape(height // unit, unit, width // unit, unit).sum(axis=(1, 3)).ravel()
    ties = np.random.default_rng(seed).random(sums.size)
    return np.lexsort((ties, -sums))


def deletion(
    scores: Scores, image: torch.Tensor, order: np.ndarray, unit: int, steps: int = 16
) -> Curve:
    """Remove units in order, the most relevant first, replaced by zeros (the mean colour).

    ``scores`` maps inputs (batch, channel, row, col) to (batch,); ``image`` (channel, row, col) is
    what the model sees. Lower areas are better. ``steps`` + 1 forward passes.

    Petsiuk, Das & Saenko, BMVC 2018, with whole units instead of pixels, so that ties inside a
    patch do not matter.
    """
    return _curve(scores, image, torch.zeros_like(image), order, unit, steps)


def insertion(
    scores: Scores, image: torch.Tensor, order: np.ndarray, unit: int, steps: int = 16
) -> Curve:
    """Put units back into a blurred image in order (Gaussian, kernel 11, sigma 5).

    As `deletion`; higher areas are better.
    """
    pixels = image.permute(1, 2, 0).float().cpu().numpy()
    blurred = torch.from_numpy(cv2.GaussianBlur(pixels, (KERNEL, KERNEL), SIGMA)).permute(2, 0, 1)
    return _curve(scores, blurred.to(image), image, order, unit, steps)


def _curve(
    scores: Scores,
    first: torch.Tensor,
    last: torch.Tensor,
    order: np.ndarray,
    unit: int,
    steps: int,
) -> Curve:
    """Return the scores on the way from ``first`` to ``last``."""
    rows, cols = (extent // unit for extent in first.shape[-2:])
    rank = torch.empty(rows * cols, dtype=torch.long)
    rank[torch.from_numpy(order.copy())] = torch.arange(rows * cols)
    planes = rank.reshape(rows, cols).repeat_interleave(unit, 0).repeat_interleave(unit, 1)
    changed = [round(rows * cols * step / steps) for step in range(steps + 1)]
    batch = torch.stack([torch.where(planes < count, last, first) for count in changed])
    with torch.no_grad():
        found = torch.cat([scores(part) for part in torch.split(batch, CHUNK)])
    return Curve(found.double().cpu().numpy())
