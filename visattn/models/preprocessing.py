"""A model's own preprocessing, with the geometry of every step recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from visattn.errors import ModelError
from visattn.geometry import Affine, Geometry
from visattn.images import Image, Size

RESIZES = ("Resize", "ResizeKeepRatio")
CROPS = ("CenterCrop", "CenterCropOrPad")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A photograph as a model sees it.

    Attributes:
        image: the photograph.
        tensor: float32 (channel, row, col), normalised.
        geometry: chain from one cell per input pixel to the photograph.
    """

    image: Image
    tensor: torch.Tensor
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """A torchvision-style pipeline: resizes, centre crops, then conversion and normalisation.

    Attributes:
        steps: the library's own transforms, in order.
        mean, std: normalisation per channel, for values in 0..1.
    """

    steps: Sequence[Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def from_transform(cls, transform: Any) -> Preprocessing:
        """Read a composed transform; raises `ModelError` for a step that cannot be traced."""
        steps = list(getattr(transform, "transforms", [transform]))
        known = (*RESIZES, *CROPS, "MaybeToTensor", "ToTensor", "Normalize")
        for step in steps:
            if type(step).__name__ not in known:
                raise ModelError(
                    f"The preprocessing step {step} cannot be traced back to the photo; "
                    f"traceable are {', '.join(known)}. Pass preprocessed tensors instead."
                )
        normalize = next((s for s in steps if type(s).__name__ == "Normalize"), None)
        if normalize is None:
            return cls(steps, (0.0,) * 3, (1.0,) * 3)
        mean, std = (tuple(float(v) for v in part) for part in (normalize.mean, normalize.std))
        return cls(steps, mean, std)

    def __call__(self, image: Image) -> Prepared:
        """Return the model's input for a photograph and where its pixels come from."""
        value: Any = image.pillow()
        back = Affine()
        for step in self.steps:
            before, value = _size(value), step(value)
            back = _undo(step, before, _size(value)).then(back)
        if not isinstance(value, torch.Tensor):
            raise ModelError("The preprocessing ends in a picture; add ToTensor as its last step.")
        size = _size(value)
        geometry = Geometry(size, size, image.size, Affine(), back)
        return Prepared(image, value.float(), geometry)

    def photograph(self, tensor: torch.Tensor) -> Image:
        """Return the picture in a normalised tensor (channel, row, col), rounded to uint8.

        Of a tensor that is not RGB, the mean of its channels in grey.
        """
        values = tensor.detach().cpu().float()
        if tensor.shape[0] != len(self.mean):
            values = values.mean(dim=0, keepdim=True).expand(len(self.mean), -1, -1)
        mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (self.mean, self.std))
        values = (values * std + mean).clamp(0, 1) * 255
        pixels = np.rint(values.permute(1, 2, 0).numpy()).astype(np.uint8)
        return Image(pixels)

    def describe(self) -> list[str]:
        """Return the steps in words, one each."""
        return [" ".join(str(step).split()) for step in self.steps]


def _size(value: Any) -> Size:
    """Return the size of a Pillow image or of a tensor (channel, row, col)."""
    if isinstance(value, PillowImage.Image):
        return Size(value.height, value.width)
    return Size(*map(int, value.shape[-2:]))


def _undo(step: Any, before: Size, after: Size) -> Affine:
    """Return the map from coordinates after one step to coordinates before it.

    A step may know it better: its own ``undo(before, after)``.
    """
    if hasattr(step, "undo"):
        found: Affine = step.undo(before, after)
        return found
    if type(step).__name__ in RESIZES:
        return Affine((before.height / after.height, before.width / after.width))
    if type(step).__name__ not in CROPS:
        return Affine()
    return Affine(
        offset=(
            float(_centre_offset(before.height, after.height)),
            float(_centre_offset(before.width, after.width)),
        )
    )


def _centre_offset(before: int, after: int) -> int:
    """Return where a centre crop starts; negative where it pads (torchvision's rounding)."""
    return -((after - before) // 2) if after > before else round((before - after) / 2.0)
