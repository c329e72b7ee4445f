"""Attention that says little about the image: prefix tokens, attention sinks, norm outliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from visattn.adapters import Refusal, TokenLayout
from visattn.head_statistics import HeadStatistics, head_statistics
from visattn.methods.artefacts import SINK, Artefacts
from visattn.methods.walk import Walk
from visattn.observation import AttentionRecord
from visattn.outliers import DEVIATIONS

SHARE_TO_WARN = 0.1
PEAK_TO_WARN = 2.0
REPAIR = "; outliers=mask or outliers=redistribute treats such tokens"
Cells = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LayerOutliers:
    """What one attention layer shows of one image.

    Attributes:
        layer: index, 0 = first.
        name: its attention operations.
        sinks: cells (row, col) of the layer's own grid whose token receives more than ``sink / N``
            attention, strongest first; None where patch tokens do not attend to each other.
        sink_share: share of all attention that the sinks receive, 0..1.
        peak: largest attention on a patch token, in units of 1/N.
        prefix_share: share of all attention that prefix tokens receive, 0..1.
        norm_outliers: cells whose token stands out by its norm behind the layer's block, largest
            first; None where norms were not read.
        norm_peak: largest norm there over the median.
    """

    layer: int
    name: str
    sinks: Cells | None
    sink_share: float | None
    peak: float | None
    prefix_share: float | None
    norm_outliers: Cells | None
    norm_peak: float | None


def outlier_report(
    record: AttentionRecord, *, sink: float = SINK, deviations: float = DEVIATIONS
) -> list[tuple[LayerOutliers, ...]]:
    """Return, for each image, the sinks and norm outliers of every attention layer.

    Definitions in `visattn.methods.artefacts.Artefacts`. Norms are reported where the record holds
    the activations at `Adapter.block_sites`. Cost 2 L N^2 D operations. Raises
    `UnsupportedMethodError` for a family without token attention.
    """
    return _report(Artefacts(Walk.of(record), sink, deviations))


def attention_statistics(record: AttentionRecord) -> list[dict[str, Any]]:
    """Return, for each image, numbers about its attention that qualify every map of it.

    ``prefix_mass``: share of the read-out row's attention that falls on prefix tokens in the last
    layer, 0..1. ``outlier_tokens``: number of sinks in the last layer. ``sinks``, ``sink_share``,
    ``norm_outliers``, ``norm_peak``: lists over the layers, as in `LayerOutliers`, cells counted.
    ``attention_distance``, ``head_redundancy``: as in `HeadStatistics`, of the last layer in which
    patch tokens attend to each other. None where something is not defined or was not read.
    """
    artefacts = Artefacts(Walk.of(record))
    heads = _heads(artefacts)
    masses = _prefix_mass(artefacts.walk)
    return [
        {
            "prefix_mass": mass,
            "outlier_tokens": _count(layers[-1].sinks) if layers else None,
            "sinks": [_count(layer.sinks) for layer in layers],
            "sink_share": [layer.sink_share for layer in layers],
            "norm_outliers": [_count(layer.norm_outliers) for layer in layers],
            "norm_peak": [layer.norm_peak for layer in layers],
            "attention_distance": head.distance,
            "head_redundancy": head.redundancy,
        }
        for mass, layers, head in zip(masses, _report(artefacts), heads, strict=True)
    ]


NO_STATISTICS: dict[str, Any] = dict.fromkeys(
    (
        *("prefix_mass", "outlier_tokens", "sinks", "sink_share", "norm_outliers", "norm_peak"),
        *("attention_distance", "head_redundancy"),
    )
)


def outlier_warnings(
    found: Mapping[str, Any], layers: Sequence[int] | None = None, *, treatable: bool = True
) -> list[str]:
    """Return what a reader of a map must know of one image's `attention_statistics`.

    Told are those of the layers (all by default) in which sinks receive at least `SHARE_TO_WARN` of
    all attention, and those behind which norm outliers reach `PEAK_TO_WARN` times the median norm.
    ``treatable``: whether the method has the option that treats them.
    """
    shares, norms = found["sink_share"], found["norm_outliers"]
    if shares is None or norms is None:
        return []
    chosen = range(len(shares)) if layers is None else layers
    notes, repair = [], REPAIR if treatable else ""
    loud = [layer for layer in chosen if (shares[layer] or 0.0) >= SHARE_TO_WARN]
    if loud:
        worst = max(loud, key=lambda layer: shares[layer])
        notes.append(
            f"attention sinks: {found['sinks'][worst]} patch tokens receive {shares[worst]:.0%} of "
            f"the attention in layer {worst}{_others(loud, worst)}{repair}"
        )
    peaks = found["norm_peak"]
    high = [i for i in chosen if norms[i] and peaks[i] >= PEAK_TO_WARN]
    if high:
        worst = max(high, key=lambda layer: peaks[layer])
        notes.append(
            f"high-norm tokens: {norms[worst]} patch tokens reach {peaks[worst]:.1f} times the "
            f"median norm behind layer {worst}{_others(high, worst)}{repair}"
        )
    return notes


def _others(layers: Sequence[int], worst: int) -> str:
    rest = [str(layer) for layer in layers if layer != worst]
    return f" (also in {', '.join(rest)})" if rest else ""


def _count(cells: Cells | None) -> int | None:
    return None if cells is None else len(cells)


def _heads(artefacts: Artefacts) -> list[HeadStatistics]:
    """Return those of the last layer in which patches attend to each other, if there is one."""
    walk = artefacts.walk
    steps = [walk.chain.steps[place] for place in walk.layers]
    mutual = (step for step in reversed(steps) if artefacts.received(step) is not None)
    step = next(mutual, steps[-1] if steps else None)
    if step is None:
        return [HeadStatistics(None, None)] * walk.record.batch
    return head_statistics(walk, step)


def _prefix_mass(walk: Walk) -> list[float | None]:
    if not walk.layers:
        return [None] * walk.record.batch
    place = walk.layers[-1]
    step = walk.chain.steps[place]
    query = "mean" if isinstance(walk.chain.readout, Refusal) else None
    row = walk.start(query, ())
    if walk.chain.pool is not None and query is None:
        row = walk.attended(walk.chain.pool, row)
    read = walk.attended(step, walk.pulled(row, len(walk.chain.steps), place + 1))
    return [float(share) for share in read[:, : len(step.before.prefix)].sum(dim=1)]


def _report(artefacts: Artefacts) -> list[tuple[LayerOutliers, ...]]:
    places = list(enumerate(artefacts.walk.layers))
    return [
        tuple(_layer(artefacts, index, place, image) for index, place in places)
        for image in range(artefacts.walk.record.batch)
    ]


def _layer(artefacts: Artefacts, index: int, place: int, image: int) -> LayerOutliers:
    step = artefacts.walk.chain.steps[place]
    behind = artefacts.walk.chain.after(place)
    received, sinks = artefacts.received(step), artefacts.sinks(step)
    norms, high = artefacts.norms.get(place), artefacts.outliers(place)
    patches = None if received is None else received[image, step.before.places]
    front = len(step.before.prefix)
    gathered = None if patches is None or sinks is None else float(patches[sinks[image]].sum())
    return LayerOutliers(
        layer=index,
        name=", ".join(placed.operation for placed in step.placements),
        sinks=_cells(step.before, sinks, patches, image),
        sink_share=gathered,
        peak=None if patches is None else float(patches.max()) / artefacts.share(step),
        prefix_share=None if received is None else float(received[image, :front].sum()),
        norm_outliers=_cells(behind, high, None if norms is None else norms[image], image),
        norm_peak=None if norms is None else _peak(norms[image]),
    )


def _cells(
    layout: TokenLayout, flagged: torch.Tensor | None, values: torch.Tensor | None, image: int
) -> Cells | None:
    """Return the flagged cells of an image, largest value first."""
    if flagged is None or values is None:
        return None
    places = flagged[image].nonzero().reshape(-1)
    ordered = places[values[places].argsort(descending=True)]
    return tuple(divmod(int(place), layout.grid.width) for place in ordered)


def _peak(norms: torch.Tensor) -> float:
    return float(norms.max() / norms.quantile(0.5))
