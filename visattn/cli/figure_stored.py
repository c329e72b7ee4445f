"""Figures of maps that were stored before: no model runs."""

from __future__ import annotations

from collections.abc import Sequence
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


def stored(paths: Sequence[Path]) -> bool:
    """Return whether a figure is made of stored maps; raises `ConfigError` for a mixture."""
    kinds = [path.suffix.lower() == SUFFIX for path in paths]
    if any(kinds) and not all(kinds):
        raise ConfigError(
            f"{paths[kinds.index(False)]} is a photo and {paths[kinds.index(True)]} a stored map: "
            "a figure is made of one or the other."
        )
    return all(kinds)


def load(paths: Sequence[Path], rows: str) -> list[list[SaliencyMap]]:
    """Return stored maps in rows, one for each photo, or each method or model as ``rows`` says.

    Where these do not hold equally many maps, all stand in one row, in the order given.
    """
    from visattn.figures.facts import facts
    from visattn.saliency import SaliencyMap

    names = {"images": "image", "models": "model", "methods": "method", "targets": "target",
             "layers": "layer", "heads": "head", "queries": "query"}  # fmt: skip
    maps = [SaliencyMap.load(path) for path in paths]
    grouped = dict[str, "list[SaliencyMap]"]()
    for each in maps:
        grouped.setdefault(facts(each).get(names[rows], ""), []).append(each)
    lengths = set(map(len, grouped.values()))
    return list(grouped.values()) if len(lengths) == 1 else [maps]
