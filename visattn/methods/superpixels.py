"""Superpixels: linear models of the score over parts of the photo that are there or not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from visattn.adapters import Adapter
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.baseline import baseline_of, described, require_baseline
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.pixels import One, Scores, differentiable, one_by_one, require_counts
from visattn.methods.seeding import seeded
from visattn.observation import AttentionRecord

Floats = npt.NDArray[np.float64]
RAISES = 5


class LinearFit:
    """Weighted ridge regression with an intercept, in float64, as captum asks for a linear model.

    Minimises ``sum_k w_k (y_k - b - z_k . c)^2 + penalty |c|^2``. It stands in for scikit-learn,
    which captum would import.

    Attributes:
        explained: share of the weighted variance of the scores that the fit explains; weights above
            1, which enforce end points, count as 1.
    """

    def __init__(self, penalty: float = 0.0) -> None:
        self._penalty = penalty
        self._coefficients = np.zeros(0)
        self.explained = 0.0

    def fit(self, train_data: Iterable[Sequence[torch.Tensor]], **options: Any) -> None:
        """Fit batches of masks (sample, feature), scores (sample,) and weights (sample,)."""
        del options
        masks, scores, weights = (
            np.concatenate([part.cpu().numpy().astype(np.float64) for part in parts])
            for parts in zip(*train_data, strict=True)
        )
        roots = np.sqrt(weights)[:, None]
        centred, shifted = _centred(masks, weights), _centred(scores[:, None], weights)
        ridge = np.sqrt(self._penalty) * np.eye(masks.shape[1])
        left = np.concatenate([roots * centred, ridge])
        right = np.concatenate([roots * shifted, np.zeros((masks.shape[1], 1))])
        self._coefficients = np.linalg.lstsq(left, right, rcond=None)[0][:, 0]
        self.explained = _explained(masks @ self._coefficients, scores, weights.clip(max=1))

    def representation(self) -> torch.Tensor:
        """Return the coefficients (feature,)."""
        return torch.from_numpy(self._coefficients)


@dataclass(frozen=True)
class SuperpixelMap(Method):
    """One coefficient for each superpixel of the photo as the model saw it.

    Superpixels are those of SLIC (scikit-image) with about ``n_segments`` parts; absent ones show
    the ``baseline``. The map holds a superpixel's coefficient at each of its pixels, averaged over
    cells of ``cell`` by ``cell`` pixels.
    """

    class_specific: ClassVar[bool] = True
    signed: ClassVar[bool] = True
    memory: ClassVar[str] = "pixels"

    cell: int = 1
    n_segments: int = 50
    compactness: float = 10.0
    samples: int = 1000
    baseline: Any = "mean"
    seed: int = 0
    chunk: int = 16

    def __post_init__(self) -> None:
        require_counts(self, ("cell", "samples", "chunk"))
        require_baseline(self.baseline)
        if self.n_segments < 2:
            raise UnsupportedMethodError(f"n_segments={self.n_segments!r} is not at least 2.")
        if self.compactness <= 0:
            raise UnsupportedMethodError(f"compactness={self.compactness!r} is not above 0.")

    @abstractmethod
    def engine(self, scores: Scores, fit: LinearFit) -> Any:
        """Return captum's method with ``fit`` as its linear model."""

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return the shared pass and one for each sample."""
        del adapter, size
        return Passes(self.samples + 1)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return coefficients of superpixels, spread over their pixels."""
        del geometries
        values, measured = [], []
        with differentiable(record) as inputs, torch.no_grad():
            scores = Scores(record, type(self).__name__, record.batch * self.samples)
            absent = torch.split(baseline_of(self.baseline, record, inputs), 1)
            for one, baseline in zip(one_by_one(record, inputs), absent, strict=True):
                parts = self._segments(record, one)
                segments = torch.from_numpy(parts.labels).to(inputs.device)
                fit = LinearFit(self.penalty)
                with seeded(one.image, self.seed, inputs.device):
                    self._fit(scores, fit, one, baseline, segments)
                values.append(fit.representation().to(inputs)[segments])
                found = {"superpixels": parts.count, "compactness": parts.compactness}
                measured.append({**found, "explained": fit.explained})
        cells = functional.avg_pool2d(torch.stack(values), self.cell, ceil_mode=True)
        return Maps(
            cells,
            (float(self.cell), float(self.cell)),
            warnings=[self.doubts(found["explained"]) for found in measured],
            facts={"baseline": described(self.baseline), "seed": self.seed},
            measured=measured,
        )

    @property
    def penalty(self) -> float:
        """Weight of the squared coefficients in the fit."""
        return 0.0

    def doubts(self, explained: float) -> list[str]:
        """Return what a reader must know of a fit that explains a share of the scores' variance."""
        del explained
        return []

    def _fit(
        self,
        scores: Scores,
        fit: LinearFit,
        one: One,
        baseline: torch.Tensor,
        segments: torch.Tensor,
    ) -> None:
        self.engine(scores, fit).attribute(
            one.inputs,
            baselines=baseline,
            additional_forward_args=(one.which,),
            feature_mask=segments[None, None],
            n_samples=self.samples,
            perturbations_per_eval=min(self.chunk, self.samples),
            return_input_shape=False,
        )

    def _segments(self, record: AttentionRecord, one: One) -> Superpixels:
        found = Superpixels.of(_picture(record, one), self.n_segments, self.compactness)
        if self.samples < found.count + 2:
            raise UnsupportedMethodError(
                f"samples={self.samples} cannot fit {found.count} superpixels and an intercept: "
                f"use at least {found.count + 2}, better ten times as many, or lower n_segments."
            )
        return found


@dataclass(frozen=True, eq=False)
class Superpixels:
    """SLIC's parts of a picture (Achanta et al., IEEE TPAMI 2012).

    Attributes:
        labels: (row, col) from 0, without gaps.
        count: how many there are.
        compactness: weight of nearness against colour that gave them.
    """

    labels: npt.NDArray[np.int64]
    count: int
    compactness: float

    @classmethod
    def of(cls, picture: Floats, wanted: int, compactness: float) -> Superpixels:
        """Return about ``wanted`` superpixels of a picture (row, col, channel) in 0..1.

        In noise, SLIC's parts fall apart and are merged into few; ``compactness`` is then raised
        tenfold until there are at least half as many as wanted.
        """
        from skimage.segmentation import slic

        for raised in range(RAISES):
            weight = compactness * 10.0**raised
            found = slic(picture, n_segments=wanted, compactness=weight)
            names, labels = np.unique(found, return_inverse=True)
            if 2 * len(names) >= wanted and len(names) > 1:
                return cls(labels.reshape(found.shape).astype(np.int64), len(names), weight)
        raise UnsupportedMethodError(
            f"The input of {picture.shape[0]} x {picture.shape[1]} has no {wanted} superpixels: "
            "lower n_segments."
        )


def _picture(record: AttentionRecord, one: One) -> npt.NDArray[np.float64]:
    """Return the photo as the model saw it (row, col, channel) in 0..1.

    Inputs whose normalisation is not known are stretched to that range.
    """
    known, values = record.preprocessing, one.inputs[0]
    if known is not None:
        return known.photograph(values).pixels / 255.0
    low, high = values.min(), values.max()
    stretched = ((values - low) / (high - low).clamp(min=1e-12)).cpu().double()
    coloured = (
        stretched if len(stretched) == 3 else stretched.mean(0, keepdim=True).expand(3, -1, -1)
    )
    return coloured.permute(1, 2, 0).contiguous().numpy()


def _centred(values: Floats, weights: Floats) -> Floats:
    centred: Floats = values - np.average(values, axis=0, weights=weights)
    return centred


def _explained(found: Floats, right: Floats, weights: Floats) -> float:
    """Return 1 - weighted squared error / weighted variance; 1 where nothing varies."""
    error = _centred((right - found)[:, None], weights)[:, 0]
    total = _centred(right[:, None], weights)[:, 0]
    variance = float(weights @ total**2)
    return 1.0 - float(weights @ error**2) / variance if variance > 0 else 1.0
