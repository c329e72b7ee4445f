"""Photos of a folder, about whose evidence nothing is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from visattn.errors import ConfigError, ImageError
from visattn.evaluation.datasets.dataset import Dataset
from visattn.evaluation.datasets.photo import prepared
from visattn.evaluation.datasets.registry import DATASETS
from visattn.evaluation.sample import Excluded, Sample
from visattn.images import find_images
from visattn.models import Model


@DATASETS.register("images")
@dataclass(frozen=True)
class Images(Dataset):
    """Every photo below a folder, explained for the predicted class.

    For a model without a classifier the target is the photo's own embedding.

    Attributes:
        source: the folder.
    """

    source: Path

    def samples(self, model: Model) -> Iterator[Sample | Excluded]:
        """Yield the photos in the order of their paths."""
        try:
            paths = find_images(self.source)
        except ImageError as error:
            raise ConfigError(str(error)) from error
        if not paths:
            raise ConfigError(f"{self.source} holds no photo.")
        for path in paths:
            name = path.relative_to(self.source).as_posix()
            found = prepared(model, path, name)
            if isinstance(found, Excluded):
                yield found
            else:
                yield Sample(name, found, own_target(model))


def own_target(model: Model) -> str | None:
    """Return what is explained where nothing is known: the prediction, or the own embedding."""
    return None if model.has_classifier else "embedding"
