"""Photos with instances annotated as in COCO."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visattn.errors import ConfigError
from visattn.evaluation.datasets.dataset import Dataset
from visattn.evaluation.datasets.labels import Labels
from visattn.evaluation.datasets.photo import OTHER_SIZE, OUTSIDE, below, fault, prepared
from visattn.evaluation.datasets.regions import box_mask, segmentation_mask, union
from visattn.evaluation.datasets.registry import DATASETS
from visattn.evaluation.sample import EVIDENCE, OTHERS, Excluded, Mask, Sample
from visattn.images import Size
from visattn.models import Model, Prepared
from visattn.options import require_choice

SEGMENTATION, BOX = BY = ("segmentation", "box")
Json = Mapping[str, Any]
Regions = dict[str, Mask | Excluded]


@DATASETS.register("coco")
@dataclass(frozen=True)
class Coco(Dataset):
    """One sample for each category in each photo: where is what the model calls so?

    The evidence is the union of the category's instances, the others are the union of those
    instances in the photo that are of other classes of the model, without the evidence. Categories
    are found among the labels as `labels.Labels` says; most of COCO's are no class of ImageNet, so
    ``classes`` says which output they are. Annotations have the size of the upright photo.

    Attributes:
        source: the file of annotations.
        images: folder of the photos; by default that of the file.
        by: ``segmentation``, polygons and run lengths, or ``box``.
        crowd: whether regions of many instances (``iscrowd``) count as instances; without them a
            category that has nothing else is left out.
        classes: file from categories to the model's labels or indices.
    """

    source: Path
    images: str | None = None
    by: str = SEGMENTATION
    crowd: bool = False
    classes: str | None = None

    truths = (EVIDENCE, OTHERS, "label")

    def __post_init__(self) -> None:
        require_choice("by", self.by, BY)

    def samples(self, model: Model) -> Iterator[Sample | Excluded]:
        """Yield the samples in the order of the photos and categories in the file."""
        file = _File.read(Path(self.source))
        labels = Labels(model, self.classes)
        labels.require_names()
        folder = Path(self.source).parent if self.images is None else Path(self.images)
        for image in file.images:
            yield from self._of_image(model, labels, file, image, folder)

    def _of_image(
        self, model: Model, labels: Labels, file: _File, image: Json, folder: Path
    ) -> Iterator[Sample | Excluded]:
        name = str(image["file_name"])
        path, found = below(folder, name), file.annotations.get(image["id"], [])
        if path is None or not found:
            yield Excluded("no annotation" if path else OUTSIDE, name)
            return
        item = prepared(model, path, name)
        if isinstance(item, Excluded):
            yield item
            return
        size = item.geometry.original
        if (image.get("height", size.height), image.get("width", size.width)) != tuple(size):
            yield Excluded(OTHER_SIZE, name)
            return
        regions = {
            category: self._union([a for a in found if a["category_id"] == number], size)
            for number, category in file.categories.items()
            if any(a["category_id"] == number for a in found)
        }
        yield from samples_of(name, item, regions, labels)

    def _union(self, annotations: list[Json], size: Size) -> Mask | Excluded:
        """Return the pixels of one category's instances."""
        kept = [each for each in annotations if self.crowd or not each.get("iscrowd")]
        if not kept:
            return Excluded("only crowd regions")
        try:
            masks = [
                box_mask(each["bbox"], size)
                if self.by == BOX
                else segmentation_mask(each["segmentation"], size)
                for each in kept
            ]
        except (ValueError, TypeError, KeyError):
            return Excluded("unreadable annotation")
        return union(masks)


def samples_of(
    name: str, item: Prepared, regions: Regions, labels: Labels
) -> Iterator[Sample | Excluded]:
    """Yield one sample for each category of a photo, given the pixels of all of them.

    A category whose pixels are not known is left out with the reason, and is nobody's other.
    """
    for category, region in regions.items():
        full = f"{name}#{category}"
        aim = labels.aim(category, full)
        if isinstance(aim, Excluded):
            yield aim
        elif isinstance(region, Excluded):
            yield Excluded(region.reason, full)
        elif wrong := fault(item, region, full):
            yield wrong
        else:
            others = _others(category, region, regions, labels)
            masks = {EVIDENCE: region, **({OTHERS: others} if others.any() else {})}
            yield Sample(full, item, aim.target, aim.label, masks, group=name)


def _others(category: str, region: Mask, regions: Regions, labels: Labels) -> Mask:
    """Return the pixels of other classes of the model outside a category's own."""
    masks = [
        each
        for other, each in regions.items()
        if not isinstance(each, Excluded) and _differ(category, other, labels)
    ]
    return union([np.zeros_like(region), *masks]) & ~region


def _differ(category: str, other: str, labels: Labels) -> bool:
    """Return whether another category is evidence of another class of the model."""
    if not labels.model.has_classifier:
        return category != other
    index = labels.index(other)
    return index is not None and index != labels.index(category)


@dataclass(frozen=True)
class _File:
    """What a file of annotations says.

    Attributes:
        images: in their order.
        categories: names by number, told apart by the number where two have one name.
        annotations: by number of the image.
    """

    images: list[Json]
    categories: dict[int, str]
    annotations: dict[int, list[Json]]

    @classmethod
    def read(cls, path: Path) -> _File:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            images, listed = list(data["images"]), list(data["categories"])
            names = [str(each["name"]) for each in listed]
            categories = {
                each["id"]: name if names.count(name) == 1 else f"{name} ({each['id']})"
                for each, name in zip(listed, names, strict=True)
            }
            annotations: dict[int, list[Json]] = {}
            for each in data["annotations"]:
                annotations.setdefault(each["image_id"], []).append(each)
                if each["category_id"] not in categories:
                    raise ValueError(f"category {each['category_id']} is not listed")
            files = [str(each["file_name"]) for each in images if each["id"] is not None]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no file of COCO annotations: {error!r}") from error
        if len(set(files)) != len(files):
            raise ConfigError(f"{path}: a photo is listed several times.")
        return cls(images, categories, annotations)
