"""COCO: the strongest cells of maps as masks that annotation tools read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visattn.atomic import write_text
from visattn.gallery.manifest import Entry
from visattn.gallery.store import Store
from visattn.saliency import SaliencyMap

AGNOSTIC = "salient region"


def run_lengths(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Return the COCO run lengths of a mask (rows, cols): down the columns, beginning with 0s."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(each) for each in np.diff(np.concatenate([[0], ends, [mask.size]]))]


def write_coco(store: Store, entries: Sequence[Entry], share: float, path: Path) -> int:
    """Write the masks of maps as COCO-style JSON; return how many maps have one.

    A mask is the photo under the fewest cells that hold ``share`` (0 to 1) of the map's positive
    mass, as uncompressed run lengths in pixels of the upright photo. Categories are the explained
    classes; class-agnostic maps have the category "salient region". Beside the fields of COCO an
    annotation has ``model``, ``method``, ``share`` and, as ``score``, the probability of the class.
    Maps without positive mass have no annotation.
    """
    images = list({entry.image: entry for entry in entries}.values())
    numbers = {entry.image: number for number, entry in enumerate(images, start=1)}
    classes = sorted({_class(entry) for entry in entries})
    categories = {each: number for number, each in enumerate(classes, start=1)}
    annotations: list[dict[str, Any]] = []
    for entry in entries:
        found = _annotation(store, entry, share)
        if found is not None:
            ids = {"id": len(annotations) + 1, "image_id": numbers[entry.image]}
            annotations.append({**ids, "category_id": categories[_class(entry)], **found})
    document = {
        "info": {"description": f"Cells that hold {share:g} of the positive mass of saliency maps"},
        "images": [
            {"id": numbers[e.image], "file_name": e.image, "height": e.height, "width": e.width}
            for e in images
        ],
        "categories": [
            {"id": number, "name": name, "index": None if index < 0 else index}
            for (name, index), number in categories.items()
        ],
        "annotations": annotations,
    }
    write_text(path, json.dumps(document, allow_nan=False) + "\n")
    return len(annotations)


def _class(entry: Entry) -> tuple[str, int]:
    """Return name and index of what a map explains; classes may share a name, not an index."""
    if entry.target_index is None:
        return entry.target_label or AGNOSTIC, -1
    return entry.target_label or f"class {entry.target_index}", entry.target_index


def _annotation(store: Store, entry: Entry, share: float) -> dict[str, Any] | None:
    from visattn.overlay.mask import kept

    saliency = SaliencyMap.load(store.root / store.map(entry.key))
    if saliency.no_signal:
        return None
    mask = kept(saliency, share) >= 0.5
    if not mask.any():
        return None
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (cols[0], rows[0], cols[-1] - cols[0] + 1, rows[-1] - rows[0] + 1)
    return {
        "segmentation": {"size": list(mask.shape), "counts": run_lengths(mask)},
        "area": int(mask.sum()),
        "bbox": [int(each) for each in box],
        "iscrowd": 1,
        "score": entry.probability,
        "model": entry.model,
        "method": entry.method,
        "share": share,
    }
