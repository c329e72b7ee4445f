"""Statistics of gates over images: mean, spread, dead and saturated ones, constant layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from visattn.gates import Kind, lookalikes
from visattn.images import Size
from visattn.methods.gating import CONSTANT, variation
from visattn.models import Model
from visattn.models.inputs import prepare_all
from visattn.observation import AttentionRecord, Gate, Missed, record_pass, wide
from visattn.observation.gate_ablation import ablated

BATCH_SIZE = 8
DEAD, SATURATED = 0.01, 0.99


@dataclass(frozen=True)
class GateRow:
    """One gate over all images.

    Attributes:
        name: dotted name of the module.
        family: its entry in `visattn.gates.GATES`.
        kind: what it weighs.
        shape: sizes of the gate of one image, axes as `visattn.observation.Gate.axes`.
        grid: rows and columns of the feature map.
        mean: mean over images, channels and positions; of distributions times their positions.
        spread: standard deviation over channels (positions, branches) of one image, mean over
            images.
        spatial_spread: standard deviation over positions over mean, mean over images; None for
            gates that do not depend on the position.
        constant: share of images on which ``spatial_spread`` is below 1 %, or None.
        dead: share of channels (positions of a spatial gate) below 0.01 on all images; None for
            distributions and for gates whose bounds are not 0 and 1, where small is not shut.
        saturated: share of those above 0.99 on all images, or None.
        change: by how much the outputs change when the gate is replaced by its mean,
            ``|y - y'| / |y|``, mean over images; None where that was not asked, and for
            distributions.
    """

    name: str
    family: str
    kind: Kind
    shape: tuple[int, ...]
    grid: Size
    mean: float
    spread: float
    spatial_spread: float | None
    constant: float | None
    dead: float | None
    saturated: float | None
    change: float | None = None


@dataclass(frozen=True)
class GateReport:
    """The gates of a model over ``images`` inputs, and modules in which none was seen.

    ``lookalikes`` names modules that are called like a gate class but are of no registered class.
    """

    rows: tuple[GateRow, ...] = ()
    missed: tuple[Missed, ...] = ()
    lookalikes: tuple[str, ...] = ()
    images: int = 0


NO_GATES = GateReport()


@dataclass(eq=False)
class _Sums:
    """What is added up of one gate over the images: nothing grows with their number."""

    gate: Gate
    mean: float = 0.0
    spread: float = 0.0
    spatial: float = 0.0
    constant: int = 0
    count: int = 0
    change: float = 0.0
    ablations: int = 0
    highest: list[torch.Tensor] = field(default_factory=list)
    lowest: list[torch.Tensor] = field(default_factory=list)

    def add(self, gate: Gate) -> None:
        values = gate.value if gate.kind != "distribution" else gate.value * gate.positions
        flat = values.flatten(1)
        self.mean += float(flat.mean(dim=1).sum())
        self.spread += float(flat.std(dim=1, correction=0).sum())
        if gate.map is not None:
            spread = variation(gate.map)
            self.spatial += float(spread.sum())
            self.constant += int((spread < CONSTANT).sum())
        self.count += len(flat)
        units = values.flatten(2) if gate.kind == "pointwise" else flat.unsqueeze(2)
        self.highest = [torch.stack([*self.highest, units.amax(dim=(0, 2))]).amax(dim=0)]
        self.lowest = [torch.stack([*self.lowest, units.amin(dim=(0, 2))]).amin(dim=0)]

    def ablate(self, model: Model, record: AttentionRecord, gate: Gate) -> None:
        """Run the model with the mean of the gate in its place."""
        if gate.kind == "distribution":
            return
        outputs = wide(record.outputs).flatten(1)
        apart = wide(ablated(model.module, record.inputs, gate)).flatten(1) - outputs
        size = outputs.norm(dim=1).clamp(min=torch.finfo(outputs.dtype).tiny)
        self.change += float((apart.norm(dim=1) / size).sum())
        self.ablations += len(outputs)

    def row(self) -> GateRow:
        gate, count = self.gate, self.count
        opens = gate.bounds == (0.0, 1.0) and gate.kind != "distribution"
        placed = gate.map is not None
        return GateRow(
            gate.name,
            gate.family,
            gate.kind,
            tuple(gate.value.shape[1:]),
            gate.grid,
            self.mean / count,
            self.spread / count,
            self.spatial / count if placed else None,
            self.constant / count if placed else None,
            float((self.highest[0] < DEAD).double().mean()) if opens else None,
            float((self.lowest[0] > SATURATED).double().mean()) if opens else None,
            self.change / self.ablations if self.ablations else None,
        )


def gate_report(model: Model, images: Any, *, ablate: bool = False) -> GateReport:
    """Return the statistics of every gate of a model over ``images``, a batch at a time.

    ``images`` as for `visattn.explain`. One forward pass per image, with ``ablate`` one more for
    each gate; memory does not grow with their number.
    """
    sums: dict[tuple[str, Kind], _Sums] = {}
    missed: dict[str, Missed] = {}
    count = 0
    for batch in batches(images):
        record = record_pass(model, prepare_all(model, batch), attention=False, gates=True).record
        count += record.batch
        for gate in record.gates:
            known = sums.setdefault((gate.name, gate.kind), _Sums(gate))
            known.add(gate)
            if ablate:
                known.ablate(model, record, gate)
        missed |= {each.name: each for each in record.missed}
    named = tuple(f"{name} ({kind})" for name, kind in lookalikes(model.module).items())
    rows = tuple(each.row() for each in sums.values())
    return GateReport(rows, tuple(missed.values()), named, count)


def batches(images: Any) -> Iterator[Any]:
    """Yield ``images``, as for `visattn.explain`, in parts of at most `BATCH_SIZE`."""
    if not isinstance(images, (list, tuple, torch.Tensor)):
        images = [images]
    for start in range(0, max(len(images), 1), BATCH_SIZE):
        yield images[start : start + BATCH_SIZE]


def gate_lines(report: GateReport) -> Sequence[str]:
    """Return the report in lines for people."""
    lines = [_line(row, max(len(each.name) for each in report.rows)) for row in report.rows]
    lines += [f"  missed: {each}" for each in report.missed]
    lines += [
        f"  not registered: {name} is called like a gate (visattn.register_gate)"
        for name in report.lookalikes
    ]
    return lines or ["  none"]


def _line(row: GateRow, width: int) -> str:
    sizes = " x ".join(map(str, row.shape))
    heading = f"  {row.name:<{width}}  {row.kind:<12}  {sizes:<13}"
    parts = [f"{heading}  mean {row.mean:.3f}, spread {row.spread:.3f}"]
    if row.spatial_spread is not None:
        parts.append(f"over positions {row.spatial_spread:.1%}")
    if row.constant:
        share = "" if row.constant == 1 else f" on {row.constant:.0%} of the images"
        parts.append(f"constant{share}")
    if row.dead is not None and row.saturated is not None:
        parts.append(f"dead {row.dead:.1%}, saturated {row.saturated:.1%}")
    if row.change is not None:
        parts.append(f"output change without it {row.change:.1%}")
    return ", ".join(parts)
