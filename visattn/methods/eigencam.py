"""Eigen-CAM (Muhammad & Yeasin, IJCNN 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.methods.cam import ActivationMap
from visattn.methods.feature_map import FeatureMap
from visattn.methods.method import Maps
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord


@METHODS.register("eigencam")
@dataclass(frozen=True)
class EigenCam(ActivationMap):
    """The first principal component of the activations over the positions.

    ``m = X v`` with X the activation as [positions, channels], the mean of each channel
    subtracted, and v its first right singular vector. Signed around the mean position, in units of
    the activation. Class-agnostic; forward only; memory min(P, C)^2 beside the activation.

    A singular vector has no sign of its own: it is turned so that the value of larger size is
    positive, for each layer on its own, which does not make it evidence for anything. The share of
    variance that the component explains is in the provenance. Computed in float64, from the
    eigenvectors of the smaller of X X^T and X^T X. Layers before a class token's last attention,
    and behind it, serve alike: no gradient is needed.

    Muhammad & Yeasin, IJCNN 2020.
    """

    class_specific: ClassVar[bool] = False
    signed: ClassVar[bool] = True
    formula: ClassVar[str] = "X v, v first right singular vector of centred X"
    paper: ClassVar[str] = "Muhammad & Yeasin, IJCNN 2020"

    def of(self, record: AttentionRecord, features: FeatureMap) -> Maps:
        """Return the first component of each image, its sign fixed by the rule."""
        del record
        rows, cols = features.values.shape[2:]
        centred = features.values.flatten(2).transpose(1, 2).double()
        centred = centred - centred.mean(dim=1, keepdim=True)
        component, share = first_component(centred)
        low, high = component.amin(dim=1), component.amax(dim=1)
        turned = torch.where(high >= -low, 1.0, -1.0)[:, None] * component
        return Maps(
            turned.reshape(-1, rows, cols),
            features.cell,
            facts={"sign": "the value of larger size is positive"},
            measured=[{"explained_variance": float(part)} for part in share],
        )


def first_component(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``X v`` (batch, row), v the first right singular vector of X (batch, row, col).

    And the share (batch,) of the sum of squares that it holds, 0 of a matrix of zeros.
    """
    wide = matrix.shape[1] <= matrix.shape[2]
    gram = matrix @ matrix.mT if wide else matrix.mT @ matrix
    values, vectors = torch.linalg.eigh(gram)
    first, size = vectors[..., -1], values[:, -1].clamp(min=0)
    component = size.sqrt()[:, None] * first if wide else (matrix @ first[..., None])[..., 0]
    total = matrix.square().sum(dim=(1, 2))
    return component, size / torch.where(total > 0, total, 1)
