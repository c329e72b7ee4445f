"""Photos annotated as in Pascal VOC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from PIL import Image as PillowImage

from visattn.errors import ConfigError, ImageError
from visattn.evaluation.datasets.coco import BOX, BY, SEGMENTATION, Regions, samples_of
from visattn.evaluation.datasets.dataset import Dataset
from visattn.evaluation.datasets.labels import Labels
from visattn.evaluation.datasets.photo import (
    OTHER_SIZE,
    OUTSIDE,
    PALETTE,
    UNREADABLE_MASK,
    below,
    prepared,
    read_values,
)
from visattn.evaluation.datasets.regions import box_mask, union
from visattn.evaluation.datasets.registry import DATASETS
from visattn.evaluation.localization import EMPTY
from visattn.evaluation.sample import EVIDENCE, OTHERS, Excluded, Mask, Sample
from visattn.images import Size
from visattn.models import Model
from visattn.options import require_choice

# In the order of the indices of the class segmentation, from 1; 0 is background.
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
BORDER = 255
LISTS = {SEGMENTATION: "Segmentation", BOX: "Main"}


class DoctypeError(ValueError):
    """An XML file declares a document type, through which entities could be expanded."""


@DATASETS.register("voc")
@dataclass(frozen=True)
class Voc(Dataset):
    """One sample for each class in each photo of a list, as in `coco.Coco`.

    Borders of objects and what is too hard to tell (index 255 of the segmentation) are neither
    evidence nor others, so a map's mass there is beside the evidence, as in the background.

    Attributes:
        source: a year's folder, such as ``VOCdevkit/VOC2012``.
        set: name of the list, ``ImageSets/Segmentation/val.txt`` or ``ImageSets/Main/val.txt``. In
            a list of one class, photos that do not show it (-1) are passed over.
        by: ``segmentation`` or ``box``.
        difficult: whether boxes of objects that are hard to recognise count.
        classes: file from VOC's classes to the model's labels or indices.
    """

    source: Path
    set: str = "val"
    by: str = SEGMENTATION
    difficult: bool = False
    classes: str | None = None

    truths = (EVIDENCE, OTHERS, "label")

    def __post_init__(self) -> None:
        require_choice("by", self.by, BY)

    def samples(self, model: Model) -> Iterator[Sample | Excluded]:
        """Yield the samples in the order of the list and of VOC's classes."""
        root, names = Path(self.source), self._listed()
        labels = Labels(model, self.classes)
        labels.require_names()
        for name in names:
            path = below(root / "JPEGImages", f"{name}.jpg")
            if path is None:
                yield Excluded(OUTSIDE, name)
                continue
            item = prepared(model, path, name)
            if isinstance(item, Excluded):
                yield item
                continue
            regions = self._regions(root, name, item.geometry.original)
            if isinstance(regions, Excluded):
                yield regions
            else:
                yield from samples_of(name, item, regions, labels)

    def _listed(self) -> list[str]:
        path = below(Path(self.source) / "ImageSets" / LISTS[self.by], f"{self.set}.txt")
        try:
            lines = [] if path is None else path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        rows = [line.split() for line in lines if line.strip()]
        names = [row[0] for row in rows if row[1:] != ["-1"]]
        if not names or len(set(names)) != len(names):
            raise ConfigError(
                f"{path} lists {len(names)} photos, {len(set(names))} different ones."
            )
        return names

    def _regions(self, root: Path, name: str, size: Size) -> Regions | Excluded:
        """Return the pixels of each class in a photo, or why they are not known."""
        if self.by == SEGMENTATION:
            return _segmented(root / "SegmentationClass" / f"{name}.png", name)
        path = root / "Annotations" / f"{name}.xml"
        if not path.is_file():
            return Excluded("no annotation", name)
        try:
            return self._boxes(path, name, size)
        except (OSError, ValueError, ET.ParseError):
            return Excluded("unreadable annotation", name)

    def _boxes(self, path: Path, name: str, size: Size) -> Regions | Excluded:
        root = _parsed(path)
        if _stated(root, size) != tuple(size):
            return Excluded(OTHER_SIZE, name)
        found: dict[str, list[Mask]] = {}
        for each in root.findall("object"):
            masks = found.setdefault((each.findtext("name") or "").strip(), [])
            if self.difficult or _number(each, "difficult", 0) == 0:
                masks.append(_box(each, size))
        if not found:
            return Excluded("no annotation", name)
        return {
            category: union(found[category])
            if found[category]
            else Excluded("only difficult objects")
            for category in sorted(found, key=_place)
        }


def _segmented(path: Path, name: str) -> Regions | Excluded:
    """Return the pixels of each class in a palette image of class indices."""
    if not path.is_file():
        return Excluded("no mask", name)
    try:
        values = read_values(path)
        with PillowImage.open(path) as opened:
            indexed = opened.mode in (*PALETTE, "L")
    except ImageError:
        return Excluded(UNREADABLE_MASK, name)
    indices = [int(each) for each in np.unique(values) if each not in (0, BORDER)]
    if not indexed or any(index > len(CLASSES) for index in indices):
        return Excluded(UNREADABLE_MASK, name)
    if not indices:
        return Excluded(EMPTY, name)
    return {CLASSES[index - 1]: values == index for index in indices}


def _box(annotation: ET.Element, size: Size) -> Mask:
    """Return the pixels of a box, whose corners are pixels counted from 1 and belong to it."""
    left, top, right, bottom = (
        _number(annotation, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")
    )
    return box_mask((left - 1, top - 1, right - left + 1, bottom - top + 1), size)


def _number(element: ET.Element, path: str, otherwise: float | None = None) -> float:
    """Return a number in an element; raises ValueError where it is missing and has no default."""
    text = element.findtext(path)
    if text is not None:
        return float(text)
    if otherwise is None:
        raise ValueError(f"no {path}")
    return otherwise


def _stated(root: ET.Element, size: Size) -> tuple[float, float]:
    """Return height and width as the annotation states them, those of the photo where it does not.

    Some annotations state 0 for what was not measured.
    """
    height, width = (
        _number(root, f"size/{side}", 0) or own
        for side, own in (("height", size.height), ("width", size.width))
    )
    return height, width


def _place(name: str) -> tuple[int, str]:
    """Return what sorts classes in VOC's order, others behind them by name."""
    return (CLASSES.index(name) if name in CLASSES else len(CLASSES)), name


class _WithoutDoctype(ET.TreeBuilder):
    """Refuses documents with a type, before anything in it is expanded."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        del public, system
        raise DoctypeError(f"the file declares a document type {name!r}")


def _parsed(path: Path) -> ET.Element:
    parser = ET.XMLParser(target=_WithoutDoctype())  # noqa: S314 - no entities without a type
    return ET.parse(path, parser).getroot()  # noqa: S314
