"""Tiny photos on disk and models that take them as they are, for data sets with annotations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import transforms

import visattn
from visattn.evaluation.datasets import open_dataset
from visattn.evaluation.sample import Excluded, Sample

LABELS = ("tabby, tabby cat", "dog", "crane", "crane", "traffic light, stoplight", "aeroplane")


class AnySize(nn.Module):
    """A network for inputs of any size."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.num_classes = classes
        self.conv = nn.Conv2d(3, max(classes, 2), 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean(dim=(2, 3))


def model(labels: Sequence[str] | None = LABELS, classes: int = len(LABELS)) -> visattn.Model:
    return visattn.load_model(
        AnySize(classes), labels=labels, transform=transforms.Compose([transforms.ToTensor()])
    )


def photo(path: Path, height: int, width: int, turn: int | None = None) -> Path:
    """Write a photo of stored size, with an EXIF tag that turns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if turn is not None:
        exif[274] = turn
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def mask(path: Path, values: np.ndarray, palette: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values.astype(np.uint8))
    if palette:
        picture.putpalette([255 - n // 3 for n in range(768)])
    picture.save(path)
    return path


def block(size: tuple[int, int], top: int, left: int, bottom: int, right: int) -> np.ndarray:
    found = np.zeros(size, bool)
    found[top:bottom, left:right] = True
    return found


def read(
    spec: str, chosen: visattn.Model | None = None
) -> tuple[dict[str, Sample], Counter[tuple[str, str]]]:
    """Return the samples of a data set by name, and the reasons and names of the others."""
    found = list(open_dataset(spec).samples(chosen or model()))
    samples = {each.name: each for each in found if isinstance(each, Sample)}
    excluded = [(each.reason, each.name) for each in found if isinstance(each, Excluded)]
    assert len(samples) + len(excluded) == len(found), "two samples have one name"
    again = list(open_dataset(spec).samples(chosen or model()))
    assert [each.name for each in again] == [each.name for each in found]
    return samples, Counter(excluded)
