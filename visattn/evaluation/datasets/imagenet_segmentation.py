"""ImageNet-Segmentation: photos of ImageNet with the pixels of their object."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visattn.errors import ConfigError, ImageError
from visattn.evaluation.datasets.dataset import Dataset
from visattn.evaluation.datasets.images import own_target
from visattn.evaluation.datasets.labels import Aim, Labels, plain
from visattn.evaluation.datasets.photo import UNREADABLE, fault
from visattn.evaluation.datasets.registry import DATASETS
from visattn.evaluation.sample import EVIDENCE, Excluded, Mask, Sample
from visattn.images import Image
from visattn.models import Model, Prepared
from visattn.models.synsets import imagenet_synsets
from visattn.options import require_choice

IMAGES, TRUTHS, NAMES, SYNSETS = "value/img", "value/gt", "value/id", "value/target"
PREDICTED, LABEL = TARGETS = ("predicted", "label")


@DATASETS.register("imagenet_segmentation")
@dataclass(frozen=True)
class ImagenetSegmentation(Dataset):
    """The 4,276 photos of ``gtsegs_ijcv.mat``, whose object is marked pixel by pixel.

    The file is MATLAB 7.3 (HDF5) and needs h5py. Each entry refers to a photo, stored as (channel,
    col, row), the first of its segmentations (col, row), its name, and the WordNet number of its
    class, which has an output in models for ImageNet-1k. The pictures are in the file, so there is
    no photo to open beside it.

    Guillaumin, Kuettel & Ferrari, IJCV 2014.

    Attributes:
        source: the file.
        target: ``predicted``, as in the segmentation test of Chefer et al. (CVPR 2021), or
            ``label``, the class of the photo; then photos whose class the model lacks are left out.
        classes: file from WordNet numbers (``n01440764``) to the model's labels or indices.
    """

    source: Path
    target: str = PREDICTED
    classes: str | None = None

    truths = (EVIDENCE,)

    def __post_init__(self) -> None:
        require_choice("target", self.target, TARGETS)

    def known(self) -> tuple[str, ...]:
        """Return the evidence and the label, which photos of unknown classes lack."""
        return (*self.truths, LABEL)

    def samples(self, model: Model) -> Iterator[Sample | Excluded]:
        """Yield the photos in the order of the file."""
        labels = Labels(model, self.classes)
        with _opened(Path(self.source)) as file:
            if any(part not in file for part in (IMAGES, TRUTHS)):
                raise ConfigError(f"{self.source} has no {IMAGES} and {TRUTHS}.")
            names = set[str]()
            for number in range(file[IMAGES].shape[0]):
                name = _text(file, NAMES, number) or f"photo {number}"
                name = f"{name} ({number})" if name in names else name
                names.add(name)
                yield self._sample(file, number, name, labels)

    def _sample(self, file: Any, number: int, name: str, labels: Labels) -> Sample | Excluded:
        aim = self._aim(_text(file, SYNSETS, number) or name.partition("_")[0], name, labels)
        if isinstance(aim, Excluded):
            return aim
        item = _photo(file, number, labels.model)
        mask = _mask(file, number)
        if item is None or mask is None:
            return Excluded(UNREADABLE if item is None else "no mask", name)
        wrong = fault(item, mask, name)
        return wrong or Sample(name, item, aim.target, aim.label, {EVIDENCE: mask})

    def _aim(self, synset: str, name: str, labels: Labels) -> Aim | Excluded:
        aim = _output(synset, name, labels)
        if self.target == LABEL:
            return aim
        label = None if isinstance(aim, Excluded) else aim.label
        return Aim(own_target(labels.model), label)


def _output(synset: str, name: str, labels: Labels) -> Aim | Excluded:
    """Return the aim of a WordNet number: as ``classes`` says, else by its place in ImageNet-1k.

    The place counts only where the model's label there is one of the names of the class: "crane" is
    two of them, and a model with other labels has others in its place.
    """
    known = imagenet_synsets().get(synset)
    if plain(synset) in labels.mapping or known is None or not labels.model.has_classifier:
        return labels.aim(synset, name)
    index, names = known
    own = labels.model.labels or ()
    own_names = {plain(each) for each in own[index].split(",")} if index < len(own) else set()
    if own_names & {plain(each) for each in names.split(",")}:
        return Aim(index, index)
    found = [labels.aim(each, name) for each in (names, *names.split(","))]
    return next((each for each in found if isinstance(each, Aim)), found[0])


def _opened(path: Path) -> Any:
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise ConfigError(
            f"{path} is MATLAB 7.3 (HDF5), which needs h5py: pip install h5py."
        ) from error
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read as HDF5: {error}") from error


def _text(file: Any, part: str, number: int) -> str:
    """Return a MATLAB text, stored as a column of UTF-16 codes; empty where there is none."""
    if part not in file or number >= file[part].shape[0]:
        return ""
    stored = _referred(file, file[part][number, 0])
    if stored is None or "MATLAB_empty" in stored.attrs or stored.dtype.kind not in "ui":
        return ""
    return "".join(map(chr, np.asarray(stored).ravel())).strip("\0 ")


def _referred(file: Any, reference: Any) -> Any:
    """Return what a reference refers to, None for one to nothing."""
    return file[reference] if reference else None


def _photo(file: Any, number: int, model: Model) -> Prepared | None:
    stored = np.asarray(_referred(file, file[IMAGES][number, 0]))
    if stored.ndim == 2:
        stored = np.repeat(stored[None], 3, axis=0)
    try:
        return model.prepare(Image(np.ascontiguousarray(stored.transpose(2, 1, 0))))
    except (ImageError, ValueError):
        return None


def _mask(file: Any, number: int) -> Mask | None:
    """Return the first segmentation of a photo (row, col); None where there is none."""
    known = number < file[TRUTHS].shape[0]
    references = _referred(file, file[TRUTHS][number, 0]) if known else None
    if references is None or references.dtype.kind != "O" or references.size == 0:
        return None
    stored = np.asarray(_referred(file, references[0, 0]))
    return None if stored.ndim != 2 else np.ascontiguousarray(stored.T > 0)
