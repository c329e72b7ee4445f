"""RISE (Petsiuk, Das & Saenko, BMVC 2018): scores of randomly masked copies of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Refusal, TokenLayout
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.baseline import described
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.pixels import require_choice, require_counts
from visattn.methods.random_masks import drawn_masks, highest, kept_tokens
from visattn.methods.registry import METHODS
from visattn.methods.seeding import generator
from visattn.observation import AttentionRecord, refusal_to_drop
from visattn.progress import progress
from visattn.targets import Resolved

CENTERS = ("auto", "none", "mean", "coverage")
SCORES = ("probability", "logit")
AGREE = 0.5


@METHODS.register("rise")
@dataclass(frozen=True)
class Rise(Method):
    """How high the explained score is, on average, where a random mask leaves a pixel visible.

    ``m = 1/(K p) sum_k f(x * M_k) M_k`` at every input pixel, f the probability of the explained
    class; K = ``masks``. A mask is a grid of ``cells`` x ``cells`` independent Bernoulli(``p``)
    bits, enlarged bilinearly to (s + 1) ceil(side / s) pixels on each axis and cut at a random
    offset, so every pixel is visible with probability p. What is hidden becomes zero in normalised
    space, the mean colour.

    The map is not centred: its mean is about the mean score, and uneven coverage by the masks shows
    as noise of that size. ``center="mean"`` subtracts the mean score from every score (signed),
    ``"coverage"`` divides by ``sum_k M_k`` instead of K p. ``"auto"`` is the paper's map for
    probabilities, and ``"mean"`` for every other score, which has no natural zero: logits
    (``score="logit"``), similarities and callables.

    ``drop=True`` hides nothing but leaves tokens out, on plain vision transformers: of each mask
    the round(p n) of n patches with the highest values at their centres are kept (ties at random),
    with all prefix tokens; M_k is then 1 on these and 0 elsewhere, p is their share, and the map
    has one value per patch.

    Class-specific; K forward passes of ``chunk`` masked images, no gradients; memory does not grow
    with K. The paper uses 4000 to 8000 masks; on a CPU begin with 500 to 1000. Correlation of the
    maps from even and odd masks is in the provenance; below 0.5 there is a warning.

    Petsiuk, Das & Saenko, BMVC 2018. The reference mirrors the grid at its border where this code
    repeats its last cells, and keeps all masks in memory.
    """

    class_specific: ClassVar[bool] = True
    memory: ClassVar[str] = "pixels"
    formula: ClassVar[str] = "1/(K p) sum_k f(x * M_k) M_k"
    paper: ClassVar[str] = "Petsiuk, Das & Saenko, BMVC 2018"

    masks: int = 4000
    cells: int = 7
    p: float = 0.5
    center: str = "auto"
    score: str = "probability"
    drop: bool = False
    seed: int = 0
    chunk: int = 32

    def __post_init__(self) -> None:
        require_counts(self, ("masks", "cells", "chunk"))
        require_choice(self, "center", CENTERS)
        require_choice(self, "score", SCORES)
        if not 0 < self.p < 1:
            raise UnsupportedMethodError(f"p={self.p!r} is not a probability between 0 and 1.")
        if not isinstance(self.drop, bool):
            raise UnsupportedMethodError(f"drop={self.drop!r} is neither True nor False.")

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why tokens cannot be dropped where that was asked for, or None."""
        if not self.drop:
            return None
        layout = adapter.layout(size)
        return layout.reason if isinstance(layout, Refusal) else refusal_to_drop(adapter)

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return one pass per mask, and the first."""
        del adapter, size
        return Passes(self.masks + 1)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return weighted means of masks."""
        del geometries
        if self.drop and record.outputs.ndim != 2:
            raise UnsupportedMethodError(
                f"drop=True: this model's outputs, {tuple(record.outputs.shape)}, are no longer "
                "the same when tokens are left out; use drop=False."
            )
        progress("rise", 0, self.masks * record.batch)
        tallies = [self._tally(record, index) for index in range(record.batch)]
        centers = [self._center(target) for target in record.again.targets]
        layout = self._layout(record)
        shape, cell = (record.size, (1.0, 1.0)) if layout is None else (layout.grid, layout.cell)
        values = [tally.map(name) for tally, name in zip(tallies, centers, strict=True)]
        measured = [tally.facts(name) for tally, name in zip(tallies, centers, strict=True)]
        return Maps(
            torch.stack(values).reshape(-1, *shape),
            cell,
            warnings=[_notes(each) for each in measured],
            facts={"baseline": described("mean") if layout is None else "tokens left out"},
            measured=measured,
            signed=[
                name == "mean" or not self._bounded(target)
                for name, target in zip(centers, record.again.targets, strict=True)
            ],
        )

    def _bounded(self, target: Resolved) -> bool:
        """Return whether a target's score is a probability, which has a natural zero."""
        return self.score == "probability" and target.probability is not None

    def _center(self, target: Resolved) -> str:
        if self.center != "auto":
            return self.center
        return "none" if self._bounded(target) else "mean"

    def _layout(self, record: AttentionRecord) -> TokenLayout | None:
        """Return the layout of the tokens that are dropped, None where pixels are hidden."""
        layout = record.adapter.layout(record.size) if self.drop else None
        return layout if isinstance(layout, TokenLayout) else None

    def _tally(self, record: AttentionRecord, index: int) -> Tally:
        """Score all masks of one image, ``chunk`` at a time."""
        random = generator(record.images[index], self.seed)
        masks = drawn_masks(record.size, self.cells, self.p, random)
        layout, share = self._layout(record), self.p
        if layout is not None:
            count = min(max(1, round(self.p * layout.patches)), layout.patches)
            masks = (highest(mask, layout, count, random) for mask in masks)
            share = count / layout.patches
        tally = Tally(record.size[0] * record.size[1] if layout is None else layout.patches, share)
        for done in range(0, self.masks, self.chunk):
            part = torch.stack(list(islice(masks, min(self.chunk, self.masks - done))))
            tally.add(self._scores(record, index, part, layout), part.flatten(1))
            over = index * self.masks + done + part.shape[0]
            progress("rise", over, self.masks * record.batch)
        return tally

    def _scores(
        self, record: AttentionRecord, index: int, masks: torch.Tensor, layout: TokenLayout | None
    ) -> torch.Tensor:
        """Return the score (mask,) of an image under masks of its pixels or of its patches."""
        again, count = record.again, masks.shape[0]
        score = again.probabilities if self.score == "probability" else again.scores
        inputs = record.inputs[index].expand(count, -1, -1, -1)
        image = record.indices[index].expand(count)
        with torch.no_grad():
            if layout is None:
                return score(inputs * masks[:, None].to(inputs), image)
            with again.keeping(kept_tokens(masks, layout)):
                return score(inputs, image)


class Tally:
    """Running sums over masks, apart for those with even and with odd numbers.

    Attributes:
        weighted: sum of score times mask, (half, place).
        covered: sum of masks, (half, place).
        scores: sum of scores, (half,).
        count: number of masks, (half,).
    """

    def __init__(self, places: int, share: float) -> None:
        self.share = share
        self.weighted = torch.zeros(2, places, dtype=torch.float64)
        self.covered = torch.zeros(2, places, dtype=torch.float64)
        self.scores = torch.zeros(2, dtype=torch.float64)
        self.count = torch.zeros(2, dtype=torch.float64)

    def add(self, scores: torch.Tensor, masks: torch.Tensor) -> None:
        """Add masks (mask, place) with their scores (mask,)."""
        scores, masks = scores.cpu().double(), masks.double()
        odd = (self.count.sum() + torch.arange(len(masks))) % 2
        halves = torch.stack([1 - odd, odd])
        self.weighted += halves * scores @ masks
        self.covered += halves @ masks
        self.scores += halves @ scores
        self.count += halves.sum(dim=1)

    def map(self, center: str) -> torch.Tensor:
        """Return the map (place,)."""
        sums = (self.weighted, self.covered, self.scores, self.count)
        return self._map(center, *(each.sum(dim=0, keepdim=True) for each in sums))[0]

    def facts(self, center: str) -> dict[str, Any]:
        """Return how the map was made and how well halves of the masks agree on it."""
        halves = self._map(center, self.weighted, self.covered, self.scores, self.count)
        agreement = float(torch.corrcoef(halves)[0, 1]) if self.count.min() > 0 else math.nan
        return {
            "center": center,
            "mean_score": float(self.scores.sum() / self.count.sum()),
            "split_half_correlation": agreement if math.isfinite(agreement) else None,
            "never_visible": int((self.covered.sum(dim=0) == 0).sum()),
        }

    def _map(
        self,
        center: str,
        weighted: torch.Tensor,
        covered: torch.Tensor,
        scores: torch.Tensor,
        count: torch.Tensor,
    ) -> torch.Tensor:
        if center == "coverage":
            return torch.where(covered > 0, weighted / covered, 0.0)
        mean = scores / count if center == "mean" else torch.zeros_like(scores)
        return (weighted - mean[:, None] * covered) / (count[:, None] * self.share)


def _notes(measured: dict[str, Any]) -> list[str]:
    """Return what a reader must know of the masks."""
    notes = []
    agreement = measured["split_half_correlation"]
    if agreement is not None and agreement < AGREE:
        notes.append(f"two halves of the masks correlate by {agreement:.2f} only: raise masks")
    if measured["never_visible"]:
        notes.append(f"{measured['never_visible']} places were never visible: raise masks")
    return notes
