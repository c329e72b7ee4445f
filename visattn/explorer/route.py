"""The steps of a model in the page: which tokens stand where, and where they go."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from visattn.adapters import Chain, Placement, Reindex, Step, TokenLayout
from visattn.explorer.operation import embedded_operation
from visattn.explorer.packing import Arrays
from visattn.images import Size
from visattn.observation import AttentionRecord


def embedded_route(
    record: AttentionRecord, chain: Chain, layers: Collection[int], arrays: Arrays
) -> list[dict[str, Any]]:
    """Return every step of the chain, first to last; operations of the given layers alone.

    Layers count the steps with attention from 0; the pooling of the head, if there is one, stands
    behind all steps.
    """
    numbers = {place: layer for layer, place in enumerate(chain.layers)}
    route = []
    for place, step in enumerate(chain.steps):
        written = _step(step, chain.after(place), arrays)
        layer = numbers.get(place)
        if layer is not None:
            written["layer"] = layer
            written["placements"] = _placements(record, step, arrays, layer in layers)
        route.append(written)
    if chain.pool is not None:
        queries = TokenLayout((), Size(0, 0), chain.end.cell)
        written = _step(chain.pool, queries, arrays, walked=False)
        route.append({**written, "placements": _placements(record, chain.pool, arrays, True)})
    return route


def embedded_layout(layout: TokenLayout) -> dict[str, Any]:
    """Return what tokens mean, for JSON."""
    return {
        "prefix": list(layout.prefix),
        "grid": list(layout.grid),
        "cell": list(layout.cell),
        "suffix": layout.suffix,
    }


def embedded_reindex(reindex: Reindex, arrays: Arrays) -> dict[str, Any]:
    """Return a re-indexing: ``same``, or entries (from, to, share); shares of 1 are left out."""
    size = list(reindex.size)
    order = np.argsort(reindex.rows.numpy(), kind="stable")
    rows, columns = (part.numpy()[order] for part in (reindex.rows, reindex.columns))
    shares = reindex.shares.numpy()[order].astype(np.float32)
    every = np.arange(size[0])
    whole = bool((shares == 1).all())
    if size[0] == size[1] and whole and np.array_equal(rows, every) and (rows == columns).all():
        return {"size": size, "same": True}
    written = {"size": size, "from": arrays.indices(rows), "to": arrays.indices(columns)}
    return written if whole else {**written, "share": arrays.add(shares)}


def _step(step: Step, after: TokenLayout, arrays: Arrays, *, walked: bool = True) -> dict[str, Any]:
    traced = step.skip is not None or (walked and step.placements[0].origin is not None)
    return {
        "before": embedded_layout(step.before),
        "after": embedded_layout(after),
        "skip": None if step.skip is None else embedded_reindex(step.skip, arrays),
        "residual": embedded_reindex(step.residual, arrays) if walked and traced else None,
        "layer": None,
        "placements": [],
    }


def _placements(
    record: AttentionRecord, step: Step, arrays: Arrays, whole: bool
) -> list[dict[str, Any]]:
    return [_placement(record, placed, arrays, whole) for placed in step.placements]


def _placement(
    record: AttentionRecord, placed: Placement, arrays: Arrays, whole: bool
) -> dict[str, Any]:
    operation = record.placed(placed)
    return {
        "name": placed.operation,
        "queries": embedded_reindex(placed.queries, arrays),
        "keys": embedded_reindex(placed.keys, arrays),
        "operation": embedded_operation(operation, arrays) if whole else None,
    }
