"""Anything that a caller may call images, prepared for a model."""

from __future__ import annotations

from typing import Any

import torch

from visattn.errors import ImageError
from visattn.images import load_image
from visattn.models.model import Model
from visattn.models.preprocessing import Prepared


def prepare_all(model: Model, images: Any) -> list[Prepared]:
    """Return one prepared input per image.

    ``images``: a path, Pillow image or uint8 array (height, width, 3), a list of those, or a
    preprocessed float tensor (batch, channel, row, col). Raises `ImageError` for anything else and
    for an empty list.
    """
    if isinstance(images, torch.Tensor):
        if images.ndim != 4 or not images.is_floating_point():
            raise ImageError(
                f"A tensor of images is float (batch, channel, row, col); this one is "
                f"{images.dtype} {tuple(images.shape)}."
            )
        many: list[Any] = list(images)
    else:
        many = list(images) if isinstance(images, (list, tuple)) else [images]
    if not many:
        raise ImageError("No image was given.")
    if isinstance(images, torch.Tensor):
        return [model.prepare_tensor(tensor) for tensor in many]
    return [model.prepare(load_image(source)) for source in many]
