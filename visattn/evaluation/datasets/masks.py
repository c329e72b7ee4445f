"""A folder of photos with masks of their evidence."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from visattn.errors import ConfigError, ImageError
from visattn.evaluation.datasets.dataset import Dataset
from visattn.evaluation.datasets.images import own_target
from visattn.evaluation.datasets.labels import Aim, Labels
from visattn.evaluation.datasets.photo import UNREADABLE_MASK, fault, prepared, read_values
from visattn.evaluation.datasets.registry import DATASETS
from visattn.evaluation.metrics.metric import LABEL
from visattn.evaluation.sample import EVIDENCE, Excluded, Mask, Sample
from visattn.images import find_images
from visattn.models import Model

IMAGES, MASKS, LABELS, SUFFIX = "images", "masks", "labels.csv", "_mask"
Found = dict[str, list[Path]]


@DATASETS.register("masks")
@dataclass(frozen=True)
class Masks(Dataset):
    """Photos whose evidence is marked in an image file each.

    Either ``images/cat.jpg`` with ``masks/cat.png``, in the same subfolders and of any formats, or
    ``cat.jpg`` beside ``cat_mask.png``. Masks have the size of the upright photo; one drawn on a
    photo that its EXIF tag turns has another and is left out (of a square photo it cannot be told).
    ``labels.csv`` with the columns ``name,label`` says the class of each photo by name or index,
    where ``name`` is its path below the photos' folder, with or without suffix; without that file
    the predicted class is explained.

    Attributes:
        source: the folder.
        value: the value of evidence in the masks (an index of the palette, or a grey value); None
            for everything above ``threshold``.
        threshold: highest value that is no evidence; above 0 for masks saved as JPEG.
        classes: file from the labels to those of the model, see `labels.Labels`.
    """

    source: Path
    value: int | None = None
    threshold: int = 0
    classes: str | None = None

    truths = (EVIDENCE,)

    def __post_init__(self) -> None:
        if self.value is not None and type(self.value) is not int:
            raise ConfigError(f"masks: value={self.value!r} is not an integer.")

    def known(self) -> tuple[str, ...]:
        """Return the evidence, and the label where ``labels.csv`` is there."""
        return (*self.truths, *([LABEL] if (self.source / LABELS).is_file() else []))

    def samples(self, model: Model) -> Iterator[Sample | Excluded]:
        """Yield the photos in the order of their paths, then what belongs to none of them."""
        folder, photos, masks = self._files()
        known = _labels(self.source / LABELS)
        labels, used = Labels(model, self.classes), set[str]()
        for path in photos:
            name = path.relative_to(folder).as_posix()
            stem = _stem(name)
            key = name if known is not None and name in known else stem
            used |= {stem, key}
            aim = self._aim(labels, None if known is None else known.get(key), known, name)
            yield (
                aim
                if isinstance(aim, Excluded)
                else self._sample(model, path, name, masks.get(stem, []), aim)
            )
        yield from (Excluded("mask without a photo", each) for each in sorted(set(masks) - used))
        lost = sorted(set(known or ()) - used)
        yield from (Excluded("label without a photo", each) for each in lost)

    def _files(self) -> tuple[Path, list[Path], Found]:
        """Return the photos' folder, the photos, and the masks by the photos' names."""
        folder, apart = self.source / IMAGES, self.source / MASKS
        masks: Found = {}
        try:
            if folder.is_dir() and apart.is_dir():
                photos = find_images(folder)
                for path in find_images(apart):
                    masks.setdefault(_stem(path.relative_to(apart).as_posix()), []).append(path)
            else:
                folder, photos = self.source, []
                for path in find_images(folder):
                    stem = _stem(path.relative_to(folder).as_posix())
                    if stem.endswith(SUFFIX):
                        masks.setdefault(stem.removesuffix(SUFFIX), []).append(path)
                    else:
                        photos.append(path)
        except ImageError as error:
            raise ConfigError(str(error)) from error
        if not photos or not masks:
            raise ConfigError(
                f"{self.source} holds {len(photos)} photos and {len(masks)} masks: put photos into "
                f"{IMAGES}/ and masks of the same names into {MASKS}/, or cat{SUFFIX}.png beside "
                "cat.jpg."
            )
        return folder, photos, masks

    def _aim(
        self, labels: Labels, label: str | None, known: dict[str, str] | None, name: str
    ) -> Aim | Excluded:
        if known is None:
            return Aim(own_target(labels.model), None)
        return Excluded("no label", name) if label is None else labels.aim(label, name)

    def _sample(
        self, model: Model, path: Path, name: str, masks: list[Path], aim: Aim
    ) -> Sample | Excluded:
        if len(masks) != 1:
            return Excluded("several masks" if masks else "no mask", name)
        item = prepared(model, path, name)
        if isinstance(item, Excluded):
            return item
        try:
            mask = self._mask(masks[0])
        except ImageError:
            return Excluded(UNREADABLE_MASK, name)
        wrong = fault(item, mask, name)
        return wrong or Sample(name, item, aim.target, aim.label, {EVIDENCE: mask})

    def _mask(self, path: Path) -> Mask:
        values = read_values(path)
        mask: Mask = values > self.threshold if self.value is None else values == self.value
        return mask


def _stem(name: str) -> str:
    """Return a path as text without the suffix of its file."""
    return name[: -len(Path(name).suffix)]


def _labels(path: Path) -> dict[str, str] | None:
    """Return the labels by name, None without a file."""
    if not path.exists():
        return None
    try:
        header, *rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines())) or [[]]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    rows = [row for row in rows if row]
    if header != ["name", "label"] or any(len(row) != 2 for row in rows):
        raise ConfigError(f"{path}: the first line is 'name,label', every other such a pair.")
    found = dict(rows)
    if len(found) != len(rows):
        raise ConfigError(f"{path}: a name stands in several lines.")
    return found
