"""Figures of maps that were stored before: no model runs."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visattn.errors import ConfigError

if TYPE_CHECKING:
    from visattn.saliency import SaliencyMap

SUFFIX = ".npz"
COMPUTED = (
    "models", "methods", "targets", "layers", "heads", "queries", "weights", "options",
    "image_size", "device",
)  # fmt: skip

FACTS_OF = {
    "images": (), "models": ("model", "weights"), "methods": ("method",), "targets": ("target",),
    "layers": ("layer",), "heads": ("head",), "queries": ("query",),
}  # fmt: skip


def stored(paths: Sequence[Path]) -> bool:
    """Return whether a figure is made of stored maps; raises `ConfigError` for a mixture."""
    kinds = [path.suffix.lower() == SUFFIX for path in paths]
    if any(kinds) and not all(kinds):
        raise ConfigError(
            f"{paths[kinds.index(False)]} is a photo and {paths[kinds.index(True)]} a stored map: "
            "a figure is made of one or the other."
        )
    return all(kinds)


def load(
    paths: Sequence[Path], rows: str, photos: Path | None = None
) -> list[list[SaliencyMap | None]]:
    """Return stored maps in rows, one for each photo, or each method or model as ``rows`` says.

    Photos are told apart by their sha256, and looked for in ``photos`` where that is given. All
    rows have the order of the first, whatever the order of the files: a column holds maps that
    differ in what makes the rows alone. Where no such columns exist, the order is the one given;
    where rows do not hold equally many maps, all stand in one.
    """
    from visattn.saliency import SaliencyMap

    maps = [SaliencyMap.load(path) for path in paths]
    maps = maps if photos is None else [_found(each, photos) for each in maps]
    grouped = dict[str, "list[SaliencyMap]"]()
    for each in maps:
        grouped.setdefault(_row_key(each, rows), []).append(each)
    listed: list[list[SaliencyMap | None]] = [_like_first(row, grouped, rows) for row in grouped]
    return listed if len(set(map(len, listed))) == 1 else [[*maps]]


def _row_key(saliency: SaliencyMap, rows: str) -> str:
    from visattn.figures.facts import facts
    from visattn.figures.photos import photo_key

    if rows == "images":
        return photo_key(saliency)
    known = facts(saliency)
    return repr([known.get(fact, "") for fact in FACTS_OF[rows]])


def _like_first(
    name: str, grouped: Mapping[str, list[SaliencyMap]], rows: str
) -> list[SaliencyMap | None]:
    """Return a row in the order of the first one, where both hold the same columns once each."""
    first, row = (
        {_column_key(each, rows): each for each in grouped[key]}
        for key in (next(iter(grouped)), name)
    )
    alike = first.keys() == row.keys() and len(row) == len(grouped[name])
    return [row[key] for key in first] if alike else [*grouped[name]]


def _column_key(saliency: SaliencyMap, rows: str) -> tuple[str, ...]:
    """Return what a map is of, but for what makes the rows."""
    from visattn.figures.facts import identity
    from visattn.figures.photos import photo_key

    known = identity(saliency)
    photo = "" if rows == "images" else photo_key(saliency)
    return (photo, *(value for fact, value in known.items() if fact not in FACTS_OF[rows]))


def _found(saliency: SaliencyMap, folder: Path) -> SaliencyMap:
    """Return a map that knows where in ``folder`` its photo is.

    Raises `ConfigError` when no file there has its name and its bytes.
    """
    from visattn.figures.photos import at, photo_key, photo_path

    path = photo_path(saliency)
    if path is None:
        raise ConfigError(f"--photos-in {folder}: {saliency!r} knows no file of its photo.")
    same = sorted(each for each in folder.rglob(glob.escape(path.name)) if each.is_file())
    for each in same:
        if hashlib.sha256(each.read_bytes()).hexdigest() == photo_key(saliency):
            return at(saliency, each)
    reason = f"{same[0]} is another photo, or has changed" if same else f"no {path.name} is there"
    raise ConfigError(
        f"--photos-in {folder}: {reason}; give the folder that holds the photo of {saliency!r}."
    )
