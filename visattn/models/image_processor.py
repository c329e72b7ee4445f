"""Image processors of transformers, taken apart into steps that can be traced to the photo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage
from torchvision import transforms
from torchvision.transforms import functional

from visattn.errors import ModelError
from visattn.images import Size

# Largest difference to the processor's own tensor, in grey levels of 0..255 before normalisation.
TOLERANCE = 0.01
# The classes that resize for all processors, on tensors and on arrays.
BACKENDS = ("TorchvisionBackend", "PilBackend")
# From this edge on, ConvNeXt's processor squashes the photo instead of cropping it.
SQUASHED = 384
# Landscape, portrait and small pictures whose margins are odd, on which the steps are proven.
PROBES = (Size(97, 143), Size(151, 118), Size(43, 30))


class Resize:
    """The plain resize of a processor's backend: of 8-bit pixels, or of floats."""

    def __init__(self, processor: Any, size: Mapping[str, int]) -> None:
        self.processor = processor
        self.size = type(processor.size)(**size)
        self.backend: Any = next(k for k in type(processor).__mro__ if k.__name__ in BACKENDS)

    def __call__(self, picture: Any) -> Any:
        """Return a Pillow image or a tensor (channel, row, col), as it was given."""
        if isinstance(picture, torch.Tensor):
            return self._resized(picture)
        pixels = np.ascontiguousarray(np.moveaxis(np.asarray(picture), -1, 0))
        on_torch = self.backend.__name__ == BACKENDS[0]
        resized = self._resized(torch.from_numpy(pixels) if on_torch else pixels)
        return PillowImage.fromarray(np.moveaxis(np.asarray(resized), 0, -1))

    def _resized(self, pixels: Any) -> Any:
        return self.backend.resize(self.processor, pixels, self.size, self.processor.resample)

    def __repr__(self) -> str:
        size = ", ".join(f"{key}={value}" for key, value in dict(self.size).items())
        return f"Resize({size}, resample={self.processor.resample})"


class CenterCrop:
    """The first half of a centre crop whose margins are rounded down: an odd one is made even.

    The last row or column goes, so that torchvision's crop, which follows, rounds nothing.
    """

    def __init__(self, size: Size) -> None:
        self.size = size

    def __call__(self, picture: Any) -> Any:
        """Return the picture without its last row or column where the margin is odd."""
        _, height, width = functional.get_dimensions(picture)
        rows, cols = (
            have - 1 if have > want and (have - want) % 2 else have
            for have, want in zip((height, width), self.size, strict=True)
        )
        return functional.crop(picture, 0, 0, rows, cols)

    def __repr__(self) -> str:
        return f"CenterCrop(even margins around {self.size.height} x {self.size.width})"


def traced(processor: Any) -> tuple[transforms.Compose, Size | None]:
    """Return a processor's work on one photo as steps, and the input size that it always makes.

    The steps are proven: on three pictures they must give the processor's own tensor within
    `TOLERANCE` grey levels. The size is None where it depends on the photo. Raises `ModelError`
    for a processor whose tensor these steps do not give.
    """
    name = type(processor).__name__
    pictures = [_picture(size) for size in PROBES]
    expected = [_processed(processor, picture) for picture in pictures]
    sizes = {Size(*tensor.shape[-2:]) for tensor in expected}
    size = sizes.pop() if len(sizes) == 1 else None
    for steps in _candidates(processor):
        composed = transforms.Compose(steps)
        if all(
            _agree(composed(picture), tensor, processor)
            for picture, tensor in zip(pictures, expected, strict=True)
        ):
            return composed, size
    raise ModelError(
        f"The image processor {name} does more than resize, crop, rescale and normalise, so its "
        "pixels cannot be traced back to the photo. Give a transform= of traceable steps, or pass "
        "preprocessed tensors."
    )


def resized(processor: Any, size: Size) -> Any:
    """Set a processor to another input size; a resize before a crop keeps its proportion to it."""
    kind = type(processor.size)
    crop: Any = getattr(processor, "crop_size", None)
    if not processor.do_resize:
        raise ModelError(
            f"{type(processor).__name__} does not resize; image_size={tuple(size)} is not possible."
        )
    if getattr(processor, "crop_pct", None) is not None and size.height == size.width:
        processor.size = kind(shortest_edge=size.height)
        return processor
    if not getattr(processor, "do_center_crop", False):
        processor.size = kind(height=size.height, width=size.width)
        return processor
    scale = max(size.height / crop.height, size.width / crop.width)
    own = {key: round(value * scale) for key, value in dict(processor.size).items()}
    processor.size = kind(**own)
    processor.crop_size = kind(height=size.height, width=size.width)
    return processor


def _candidates(processor: Any) -> list[list[Any]]:
    """Return the steps in the two orders that processors have: 8-bit resize, or float resize."""
    if not {kind.__name__ for kind in type(processor).__mro__} & set(BACKENDS):
        return []
    resize, crop = _resize_and_crop(processor)
    shrink = [Resize(processor, resize)] if processor.do_resize else []
    cut = [CenterCrop(crop), transforms.CenterCrop(tuple(crop))] if crop else []
    to_tensor, end = transforms.ToTensor(), _normalize(processor)
    return [[*shrink, *cut, to_tensor, *end], [to_tensor, *shrink, *cut, *end]]


def _resize_and_crop(processor: Any) -> tuple[dict[str, int], Size | None]:
    """Return what a processor resizes to, and the centre that it keeps."""
    size = dict(processor.size)
    if getattr(processor, "do_center_crop", False):
        return size, Size(processor.crop_size.height, processor.crop_size.width)
    share = getattr(processor, "crop_pct", None)
    edge = size.get("shortest_edge")
    if share is None or edge is None:
        return size, None
    if edge >= SQUASHED:
        return {"height": edge, "width": edge}, None
    return {"shortest_edge": int(edge / share)}, Size(edge, edge)


def _normalize(processor: Any) -> list[Any]:
    """Return rescaling and normalisation as one step on values in 0..1."""
    factor = 255 * (processor.rescale_factor if processor.do_rescale else 1.0)
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else (0, 1)
    means, stds = (np.broadcast_to(np.asarray(v, float), 3) / factor for v in (mean, std))
    if not means.any() and (stds == 1).all():
        return []
    return [transforms.Normalize(means.tolist(), stds.tolist())]


def _processed(processor: Any, picture: PillowImage.Image) -> torch.Tensor:
    name = type(processor).__name__
    try:
        pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
    except Exception as error:
        raise ModelError(
            f"The image processor {name} does not make pixel_values of one photo: {error}"
        ) from error
    if pixels.ndim != 4 or len(pixels) != 1:
        raise ModelError(
            f"The image processor {name} makes {tuple(pixels.shape)} of one photo, not (1, "
            "channel, row, col)."
        )
    return torch.as_tensor(pixels[0])


def _agree(found: torch.Tensor, expected: torch.Tensor, processor: Any) -> bool:
    if found.shape != expected.shape:
        return False
    levels = _normalize(processor)
    scale = torch.tensor(levels[0].std if levels else [1.0])[:, None, None] * 255
    return bool(((found - expected).abs() * scale).max() <= TOLERANCE)


def _picture(size: Size) -> PillowImage.Image:
    """Return a picture in which no two rows or columns are alike."""
    pixels = np.random.default_rng(size.height).integers(0, 256, (*size, 3), np.uint8)
    return PillowImage.fromarray(pixels)
