"""Sample: one input with what is explained in it and, where it is known, where the evidence is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from visattn.errors import ConfigError
from visattn.images import Size
from visattn.models import Prepared
from visattn.targets import SimilarityTarget

Mask = npt.NDArray[np.bool_]
EVIDENCE, DISTRACTORS, OTHERS = "evidence", "distractors", "others"


@dataclass(frozen=True, eq=False)
class Sample:
    """One input of a data set.

    Attributes:
        name: unique in the data set, the same in every run.
        prepared: the input as the model sees it, with its photo and geometry.
        target: what class-specific methods explain: a class index, a `SimilarityTarget`,
            ``"embedding"``, or None for the predicted class.
        label: index of the true class among the model's outputs; None where it is not known.
        masks: (row, col) bool on the upright photo, by name: ``evidence`` of the target,
            ``distractors`` that say nothing of it, ``others`` that are evidence of other classes.
        tile: number of the tile that holds the target, row by row, and tiles in a row; of mosaics.
        group: what is drawn as one in the bootstrap: samples of one photo, scene or mosaic are not
            independent. By default the name.
    """

    name: str
    prepared: Prepared
    target: Any = None
    label: int | None = None
    masks: Mapping[str, Mask] = field(default_factory=dict)
    tile: tuple[int, int] | None = None
    group: str = ""

    def __post_init__(self) -> None:
        size = tuple(self.prepared.geometry.original)
        for name, mask in self.masks.items():
            if mask.dtype != np.bool_ or mask.shape != size:
                raise ConfigError(
                    f"{self.name}: the mask of {name} is {mask.dtype} {mask.shape}, the upright "
                    f"photo {size[0]} x {size[1]} (rows x columns): give a bool mask of its size."
                )
        if not self.group:
            object.__setattr__(self, "group", self.name)

    @property
    def size(self) -> Size:
        """Height and width of the model's input."""
        return self.prepared.geometry.input

    def digest(self) -> str:
        """Return what changes when input, target, label or masks change."""
        state = hashlib.sha256(self.prepared.tensor.numpy().tobytes())
        state.update(repr((self.name, self.label, self.tile, self.group)).encode())
        state.update(_target_bytes(self.target))
        for name in sorted(self.masks):
            state.update(name.encode() + np.packbits(self.masks[name]).tobytes())
        return state.hexdigest()


@dataclass(frozen=True)
class Excluded:
    """Something that gets no score, and why.

    Attributes:
        reason: in words that are the same for all things left out for it, so that they can be
            counted: ``empty mask``, not ``empty mask in cat.png``.
        name: of the sample; empty where the place says it.
        detail: the reason with what it was here, or None.
    """

    reason: str
    name: str = ""
    detail: str | None = None


def _target_bytes(target: Any) -> bytes:
    if not isinstance(target, SimilarityTarget):
        return repr(target).encode()
    reference = target.reference
    if isinstance(reference, (torch.Tensor, np.ndarray)):
        data = torch.as_tensor(reference).detach().cpu().numpy().tobytes()
    else:
        data = repr(reference).encode()
    return target.metric.encode() + data
