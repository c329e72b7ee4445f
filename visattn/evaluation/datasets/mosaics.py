"""Mosaics of photos, where the evidence of each one's class lies in its own tile."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from visattn.errors import ConfigError
from visattn.evaluation.datasets.dataset import Dataset
from visattn.evaluation.datasets.opening import open_dataset
from visattn.evaluation.datasets.planted import MISCLASSIFIED
from visattn.evaluation.datasets.registry import DATASETS
from visattn.evaluation.metrics.metric import TILE
from visattn.evaluation.mosaic import Mosaic, cell_of, drawn
from visattn.evaluation.sample import EVIDENCE, Excluded, Sample
from visattn.evaluation.tiling import Tiling
from visattn.images import Image, load_image
from visattn.models import Model
from visattn.targets import SimilarityTarget, predictions

SHOWN = 8  # confidences in a message


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo, and what the model says of it alone.

    Attributes:
        name: in its data set.
        source: the file, or the picture where there is none.
        target: class index, or the similarity to its embedding.
        shows: what no other tile of a mosaic may show: the class, or the photo itself.
        confidence: probability of the class; 1 without a classifier.
    """

    name: str
    source: Path | Image
    target: Any
    shows: Hashable
    confidence: float = 1.0


@DATASETS.register("mosaics")
@dataclass(frozen=True)
class Mosaics(Dataset):
    """Mosaics of ``side`` x ``side`` photos, one sample for each tile.

    Of a classifier only photos count that it gives at least ``confidence`` to one class alone (and
    the true one, where that is known), and the classes of a mosaic are distinct; the target is the
    class. Of a model without classifier the target is the similarity to the embedding of the photo
    alone. `Tiling` says at which size a photo is alone. A photo is in several mosaics; the samples
    of one mosaic are one group.

    Attributes:
        source: a folder of photos, or the spec of another data set without options.
        side: tiles in a row.
        count: mosaics at most.
        seed: of the draw.
        confidence: least probability.
        orders: in how many orders one choice of photos may come.
        tile: side of a tile in pixels; None makes mosaics of the model's own input size. With it
            the inputs are ``side * tile`` pixels, for models that take any size.

    Boehle, Fritz & Schiele, CVPR 2021, with ``side=3`` and tiles of the model's own size.
    """

    truths: ClassVar[tuple[str, ...]] = (EVIDENCE, TILE)

    source: Path
    side: int = 2
    count: int = 100
    seed: int = 0
    confidence: float = 0.99
    tile: int | None = None
    orders: int = 1

    def __post_init__(self) -> None:
        whole = (self.side, self.count, self.orders, 1 if self.tile is None else self.tile)
        if not all(isinstance(n, int) and n > 0 for n in whole) or self.side < 2:
            raise ConfigError(
                f"side={self.side}, count={self.count}, orders={self.orders}, tile={self.tile}: at "
                "least 2 tiles in a row, one mosaic, one order and tiles of at least one pixel are "
                "needed."
            )
        if not 0 <= self.confidence <= 1:
            raise ConfigError(f"confidence={self.confidence!r} is not in 0..1.")

    def samples(self, model: Model) -> Iterator[Sample | Excluded]:
        """Yield photos that are left out, then the tiles of each mosaic.

        Raises `ConfigError` where too few photos are left, saying at which confidence there would
        be enough, and as `Tiling` does.
        """
        tiling = Tiling.of(model, self.side, self.tile)
        photos, left_out = [], []
        for each in self.photos(tiling):
            if isinstance(each, Photo):
                photos.append(each)
            else:
                left_out.append(each)
        sure = [photo for photo in photos if photo.confidence >= self.confidence]
        if len({photo.shows for photo in sure}) < self.side**2:
            raise ConfigError(self._too_few(photos, sure))
        reason = f"confidence below {self.confidence:g}"
        yield from left_out
        yield from (Excluded(reason, p.name) for p in photos if p.confidence < self.confidence)
        shown = [photo.shows for photo in sure]
        for index, mosaic in enumerate(drawn(shown, self.side, self.seed, self.count, self.orders)):
            yield from _tiles(tiling, mosaic, [sure[place] for place in mosaic.photos], index)

    def photos(self, tiling: Tiling) -> Iterator[Photo | Excluded]:
        """Yield each photo of the source once, and what cannot be used."""
        model, seen = tiling.model, set[str]()
        for (key, _), group in groupby(self._opened().samples(model), _identity):
            several = list(group)
            first = several[0]
            if isinstance(first, Excluded):
                yield from (each for each in several if isinstance(each, Excluded))
            elif key not in seen:
                seen.add(key)
                truths = {each.label for each in several if isinstance(each, Sample)} - {None}
                yield _alone(tiling, first, truths)

    def _opened(self) -> Dataset:
        text = str(self.source)
        if not self.source.is_dir() and ":" not in text and text not in DATASETS.names():
            raise ConfigError(f"{text} is neither a folder of photos nor a data set.")
        return open_dataset(text)

    def _too_few(self, photos: Sequence[Photo], sure: Sequence[Photo]) -> str:
        """Return what is missing, and how it could be there."""
        wanted, classes = self.side**2, set[Hashable]()
        best = sorted(photos, key=lambda photo: -photo.confidence)
        enough = None
        for photo in best:
            classes.add(photo.shows)
            if len(classes) == wanted:
                enough = np.floor(photo.confidence * 1000) / 1000
                break
        highest = ", ".join(f"{photo.confidence:.3f}" for photo in best[:SHOWN]) or "none"
        repair = "give more photos" if enough is None else f"confidence={enough:g} has enough"
        return (
            f"{len({photo.shows for photo in sure})} distinct classes have a photo with a "
            f"confidence of at least {self.confidence:g}, {wanted} are needed for {self.side} x "
            f"{self.side} tiles; the highest confidences are {highest}: {repair}, or take fewer "
            "tiles (side=2)."
        )


def _identity(each: Sample | Excluded) -> tuple[str, bool]:
    if isinstance(each, Excluded):
        return "", True
    return each.prepared.image.sha256, False


def _alone(tiling: Tiling, sample: Sample, truths: set[int | None]) -> Photo | Excluded:
    """Return a photo with what the model says of it alone."""
    image = sample.prepared.image
    outputs = tiling.alone(image)
    source = image.path or image
    (first,) = predictions(tiling.model, outputs)
    if first is None:
        embedding = outputs.flatten(1)[0].float().cpu()
        target = SimilarityTarget(embedding, name=sample.name)
        return Photo(sample.name, source, target, image.sha256)
    if truths and first.index not in truths:
        return Excluded(MISCLASSIFIED, sample.name)
    return Photo(sample.name, source, first.index, first.index, first.probability or 0.0)


def _tiles(tiling: Tiling, mosaic: Mosaic, photos: Sequence[Photo], index: int) -> Iterator[Sample]:
    """Yield one sample for each tile of a mosaic."""
    parts = torch.stack([tiling.pixels(load_image(photo.source)) for photo in photos])
    prepared = tiling.model.prepare_tensor(
        Mosaic(tuple(range(len(photos))), mosaic.side).compose(parts)
    )
    for tile, photo in enumerate(photos):
        mask = np.zeros(tuple(prepared.geometry.original), bool)
        mask[cell_of(mask.shape, tile, mosaic.side)] = True
        yield Sample(
            f"mosaic {index}, tile {tile}: {photo.name}",
            prepared,
            photo.target,
            masks={EVIDENCE: mask},
            tile=(tile, mosaic.side),
            group=f"mosaic {index}",
        )
