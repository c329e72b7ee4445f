"""Which photo a map is of, and what to call it so that no two photos have one name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from visattn.saliency import SaliencyMap

DIGITS = 6


def photo_key(saliency: SaliencyMap) -> str:
    """Return what tells a map's photo from others: its sha256, else its path, else nothing."""
    stored = saliency.provenance.get("image", {})
    known = saliency.photo.sha256 if saliency.photo is not None else ""
    return str(stored.get("sha256") or known or stored.get("path") or "")


def photo_path(saliency: SaliencyMap) -> Path | None:
    """Return the file of a map's photo, or None for pixels without one."""
    path = saliency.photo.path if saliency.photo is not None else None
    stored = path or saliency.provenance.get("image", {}).get("path")
    return Path(stored) if stored else None


def at(saliency: SaliencyMap, path: Path) -> SaliencyMap:
    """Return a map that looks for its photo at ``path``."""
    image = {**saliency.provenance.get("image", {}), "path": str(path)}
    return replace(saliency, provenance={**saliency.provenance, "image": image})


def photo_names(maps: Iterable[SaliencyMap | None]) -> dict[str, str]:
    """Return a name for each photo of a figure, by `photo_key`.

    The file's name without its suffix; photos that share it are called by the shortest end of their
    paths that tells them apart (``a/cat`` and ``b/cat``), by their suffixes where only these
    differ, and by the start of their hashes where one path held two photos. A photo without a file
    has no name.
    """
    paths = dict[str, Path]()
    for each in maps:
        path = photo_path(each) if each else None
        if each and path is not None:
            paths.setdefault(photo_key(each), path)
    groups = dict[str, dict[str, Path]]()
    for key, path in paths.items():
        groups.setdefault(path.stem, {})[key] = path
    return {key: name for group in groups.values() for key, name in _told_apart(group).items()}


def _told_apart(paths: Mapping[str, Path]) -> dict[str, str]:
    for way in _ways(max(len(path.parts) for path in paths.values())):
        names = {key: way(path) for key, path in paths.items()}
        if len(set(names.values())) == len(names):
            return names
    return {key: f"{path.stem} ({key[:DIGITS]})" for key, path in paths.items()}


def _ways(longest: int) -> Iterator[Callable[[Path], str]]:
    """Yield ways to write a path, shortest first: without its suffix, then with it."""
    for bare in (True, False):
        for parts in range(1, longest + 1):
            yield partial(_end, parts=parts, bare=bare)


def _end(path: Path, *, parts: int, bare: bool) -> str:
    return Path(*(path.with_suffix("") if bare else path).parts[-parts:]).as_posix()
