"""Difference maps: two checkpoints, two classes, two methods on one photo."""

from __future__ import annotations

from typing import Any

import numpy as np

from visattn.errors import ConfigError, suggestion
from visattn.figures.alignment import aligned, require_one_photo
from visattn.figures.facts import DIFFERENCE, FACTS, facts
from visattn.figures.shared_scale import MINUS, unit
from visattn.geometry import Array
from visattn.saliency import SaliencyMap

SCALINGS = ("raw", "mass", "max")
WORDS = {
    "raw": "raw values",
    "mass": "each map divided by the sum of its magnitudes",
    "max": "each map divided by its largest magnitude",
}


def difference(
    first: SaliencyMap, second: SaliencyMap, *, scaling: str | None = None
) -> SaliencyMap:
    """Return ``first - second`` as a signed map: positive where the first one is higher.

    Both are brought to one grid (`visattn.figures.aligned`) and scaled: ``raw`` not at all,
    ``mass`` by ``1 / sum |m|`` over the cells that both saw, ``max`` by ``1 / max |m|``. By default
    maps of one method and one model are subtracted raw, others, whose values have different units,
    as ``mass``; the provenance says which. Where one of both has no signal, the difference has
    none. Raises `ConfigError` for maps of different photos or an unknown scaling.
    """
    chosen = scaling or ("raw" if unit(first) == unit(second) else "mass")
    if chosen not in SCALINGS:
        raise ConfigError(f"scaling={scaling!r} does not exist.{suggestion(chosen, SCALINGS)}")
    silent = [f"{_named(each)} has none ({each.no_signal})"
              for each in (first, second) if each.no_signal]  # fmt: skip
    require_one_photo([first, second])
    if silent:  # cells without signal may be NaN, and have no place on a common grid
        grid, geometry = np.zeros_like(first.grid), first.geometry
    else:
        (one, other), geometry = aligned([first, second])
        grid = _scaled(one, chosen) - _scaled(other, chosen)
    words = _words(first, second)
    facts_of_both = {
        "first": facts(first), "second": facts(second), "scaling": chosen, "label": words,
        "scaled": WORDS[chosen],
    }  # fmt: skip
    notes = tuple(dict.fromkeys((*first.warnings, *second.warnings)))
    return SaliencyMap(
        grid=grid,
        geometry=geometry,
        method=f"difference {words}",
        model=first.model if first.model == second.model else f"{first.model}, {second.model}",
        signed=True,
        warnings=notes,
        provenance={DIFFERENCE: facts_of_both, "image": first.provenance.get("image", {})},
        photo=first.photo,
        silence="; ".join(silent) or None,
    )


def _scaled(grid: Array, scaling: str) -> Array:
    values = grid.astype(np.float64)
    if scaling == "raw":
        return values.astype(np.float32)
    whole = np.abs(values).sum() if scaling == "mass" else np.abs(values).max()
    return (values / whole if whole > 0 else values).astype(np.float32)


def _named(saliency: SaliencyMap) -> str:
    return f"{saliency.method} of {saliency.model}"


def _sides(saliency: SaliencyMap) -> dict[str, str]:
    """Return the facts of one side, its class without the probability."""
    target = saliency.target
    return {**facts(saliency), **({"target": target.label} if target else {})}


def _words(first: SaliencyMap, second: SaliencyMap) -> str:
    """Return what distinguishes both, as ``a - b``."""
    one, other = (_sides(each) for each in (first, second))
    differs = [name for name in FACTS if one.get(name) != other.get(name)] or ["method"]
    if "target" in differs and len(differs) > 1 and "method" in differs:
        differs.remove("target")
    sides: list[Any] = [
        ", ".join(each[name] for name in differs if name in each) or "none" for each in (one, other)
    ]
    return f" {MINUS} ".join(sides)
