"""What maps say about themselves, and where in a figure each fact is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visattn.figures.photos import photo_key, photo_names, photo_path
from visattn.geometry import Box
from visattn.saliency import SaliencyMap, Target

Maps = Sequence[Sequence[SaliencyMap | None]]

DIFFERENCE = "difference"
FACTS = ("image", "model", "weights", "method", "target", "layer", "head", "query", DIFFERENCE)
AXES = ("layers", "heads", "query")
PIXEL = re.compile(r"Pixel\(x=([-+.\deE]+), y=([-+.\deE]+)\)")


@dataclass(frozen=True)
class Labels:
    """The words around panels, each a list of lines that may still be wrapped.

    Attributes:
        rows: for each row, the facts that hold along it and differ between rows.
        columns: for each column, the same.
        panels: for each row and column, the facts that neither a row nor a column says.
        common: the facts that hold for the whole figure, by name.
    """

    rows: list[list[str]]
    columns: list[list[str]]
    panels: list[list[list[str]]]
    common: dict[str, str]

    @classmethod
    def of(cls, maps: Maps) -> Labels:
        """Return the labels of a grid of maps: each fact once, at the widest place it holds for."""
        photos = photo_names(each for row in maps for each in row)
        known = [[facts(each, photos) if each else {} for each in row] for row in maps]
        height, width = len(known), len(known[0])
        labels = cls(
            [[] for _ in range(height)],
            [[] for _ in range(width)],
            [[[] for _ in range(width)] for _ in range(height)],
            {},
        )
        left_out = () if _same_model_twice(known) else ("weights",)
        for fact in FACTS:
            if fact not in left_out:
                labels._place(fact, [[each.get(fact) for each in row] for row in known])
        return labels

    def _place(self, fact: str, values: list[list[str | None]]) -> None:
        across = list(zip(*values, strict=True))
        every = _distinct([value for row in values for value in row])
        # A map that is no difference is unlike every difference; elsewhere an absent fact (the
        # target of a class-agnostic map) goes with any.
        count = _kinds if fact == DIFFERENCE else _count
        if count([value for row in values for value in row]) < 2:
            self.common.update({fact: every[0]} if every else {})
        elif all(count(row) < 2 for row in values):
            _extend(self.rows, [_distinct(row) for row in values])
        elif all(count(column) < 2 for column in across):
            _extend(self.columns, [_distinct(column) for column in across])
        else:
            for panels, row in zip(self.panels, values, strict=True):
                _extend(panels, [_distinct([value]) for value in row])


def facts(saliency: SaliencyMap, photos: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what a map shows, in words, by the names in `FACTS`; absent ones are left out.

    ``photos``: the names of the photos of a whole figure (`visattn.figures.photos.photo_names`);
    without them a photo is called by its file alone.
    """
    image = (photos or {}).get(photo_key(saliency)) or image_name(saliency)
    both = saliency.provenance.get(DIFFERENCE)
    if both:
        words = {"image": image, DIFFERENCE: both["label"]}
        return {name: word for name, word in words.items() if word}
    changed = saliency.provenance.get("changed", {})
    found = {
        "image": image,
        "model": saliency.model,
        "weights": weights_name(saliency),
        "method": method_name(saliency),
        "target": target_name(saliency.target),
        "layer": _numbered("layer", changed.get("layers")),
        "head": _numbered("head", changed.get("heads")),
        "query": query_name(changed.get("query")),
    }
    return {name: words for name, words in found.items() if words}


def image_name(saliency: SaliencyMap) -> str:
    """Return the name of the photo's file without its suffix, or nothing."""
    path = photo_path(saliency)
    return path.stem if path else ""


def weights_name(saliency: SaliencyMap) -> str:
    """Return where the weights come from, and the start of their hash: file names may repeat."""
    known = saliency.provenance.get("model", {})
    source = str(known.get("source", "")).removeprefix("checkpoint ")
    digest = str(known.get("weights_sha256") or "")[:6]
    return f"{source} ({digest})".strip() if digest else source


def method_name(saliency: SaliencyMap) -> str:
    """Return the method with its options, but for layers, heads and query."""
    changed = saliency.provenance.get("changed", {})
    options = [f"{name}={value}" for name, value in changed.items() if name not in AXES]
    return f"{saliency.method} ({', '.join(options)})" if options else saliency.method


def identity(saliency: SaliencyMap) -> dict[str, str]:
    """Return what a map is of, by the names in `FACTS`, but for its photo.

    Of the target, what was asked for: the class that a model predicts, or the second most probable
    one, differs from photo to photo, and is one column of a figure all the same. Absent facts are
    empty.
    """
    known = facts(saliency)
    asked = saliency.provenance.get("target")
    known["target"] = "" if asked is None else f"target {asked}"
    return {name: known.get(name, "") for name in FACTS if name != "image"}


def target_name(target: Target | None) -> str:
    """Return what a class-specific map explains, with its probability; nothing without one."""
    if target is None:
        return ""
    if target.probability is None:
        return target.label
    low = 0 < target.probability < 0.005
    return f"{target.label} {'< 0.01' if low else f'{target.probability:.2f}'}"


def query_name(query: Any) -> str:
    """Return a query in words; nothing for what the head reads."""
    if query is None:
        return ""
    pixel = PIXEL.fullmatch(query) if isinstance(query, str) else None
    if pixel:
        return f"query at pixel ({float(pixel[1]):g}, {float(pixel[2]):g})"
    if isinstance(query, (list, tuple)):
        return f"query ({', '.join(map(str, query))})"
    return f"query {query}"


def query_box(saliency: SaliencyMap) -> Box | None:
    """Return the cell that was the query, in photo pixels, cut at what the model saw; or None."""
    query = saliency.provenance.get("options", {}).get("query")
    pixel = PIXEL.fullmatch(query) if isinstance(query, str) else None
    if pixel:
        cell = saliency.geometry.cell_at(float(pixel[1]), float(pixel[2]))
    elif isinstance(query, (list, tuple)) and len(query) == 2:
        cell = (int(query[0]), int(query[1]))
    else:
        return None
    box, seen = saliency.geometry.cell_box(*cell), saliency.geometry.visible
    cut = Box(*map(max, box[:2], seen[:2]), *map(min, box[2:], seen[2:]))
    return cut if cut.top < cut.bottom and cut.left < cut.right else None


def _numbered(noun: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        plural = "s" if len(value) > 1 else ""
        return f"{noun}{plural} {', '.join(map(str, value))}"
    return f"{value} of {noun}s" if isinstance(value, str) else f"{noun} {value}"


def _same_model_twice(known: Sequence[Sequence[dict[str, str]]]) -> bool:
    """Return whether one model occurs with several weights, which then tell maps apart."""
    pairs = {(each.get("model"), each.get("weights")) for row in known for each in row if each}
    return len(pairs) > len({model for model, _ in pairs})


def _distinct(values: Sequence[str | None]) -> list[str]:
    return list(dict.fromkeys(value for value in values if value))


def _count(values: Sequence[str | None]) -> int:
    return len(_distinct(values))


def _kinds(values: Sequence[str | None]) -> int:
    return len(set(values))


def _extend(labels: list[list[str]], words: list[list[str]]) -> None:
    for label, more in zip(labels, words, strict=True):
        label.extend(more)
