"""inspect_model: what visattn knows about a model, proven on one pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visattn.adapters import Readout, Refusal
from visattn.errors import CaptureError, UnsupportedMethodError
from visattn.gate_statistics import NO_GATES, GateReport, batches, gate_lines, gate_report
from visattn.images import Size, find_images
from visattn.methods import get_method, list_methods
from visattn.models import Model, load_model
from visattn.models.inputs import prepare_all
from visattn.observation import Proof, observe, prove, record_pass
from visattn.sinks import LayerOutliers, outlier_report


@dataclass(frozen=True)
class OperationRow:
    """One attention operation: name and sizes (windows, heads, queries, keys) for one image."""

    name: str
    shape: tuple[int, int, int, int]
    fused: bool
    biased: bool
    axis: str


@dataclass(frozen=True)
class OutlierRow:
    """Artefact tokens of one attention layer, means over images; None where not defined or read.

    Attributes:
        layer: index, 0 = first.
        sinks: number of patch tokens that receive more than 5/N attention.
        sink_share: share of all attention that these receive, 0..1.
        prefix_share: share of all attention that prefix tokens receive, 0..1.
        norm_outliers: number of patch tokens with a norm above median + 5 * 1.4826 MAD behind the
            layer's block.
    """

    layer: int
    sinks: float | None
    sink_share: float | None
    prefix_share: float | None
    norm_outliers: float | None


@dataclass(frozen=True)
class Report:
    """What visattn knows about a model; printing it prints a page.

    Attributes:
        facts: name, class, family, weights, input, ...
        operations: attention operations in execution order.
        proof: how exactly they were observed, None for a model without attention.
        tokens: prefix tokens, grid and read-out in words, or why they are not known.
        outliers: attention sinks and high-norm tokens of each attention layer, or why they are not
            known.
        methods: for each method None where it applies, else why not.
        on_images: whether outliers and gates were counted on photographs.
        gates: statistics of every channel and spatial gate.
    """

    facts: Mapping[str, Any]
    operations: tuple[OperationRow, ...]
    proof: Proof | None
    tokens: Mapping[str, str]
    outliers: tuple[OutlierRow, ...] | str
    methods: Mapping[str, str | None]
    on_images: bool = False
    gates: GateReport = NO_GATES

    def __str__(self) -> str:
        facts = {**self.facts, **self.tokens}
        width = max(len(key) for key in facts) + 2
        lines = [f"{key:<{width}}{value}" for key, value in facts.items()]
        lines += ["", "attention operations", *_operation_lines(self.operations)]
        lines += ["", "proof", *_proof_lines(self.proof)]
        seen = "photographs" if self.on_images else "noise (photographs: --image, images=)"
        lines += ["", f"artefact tokens, mean of an image, on {seen}"]
        lines += _outlier_lines(self.outliers)
        number = f"{self.gates.images} " if self.on_images else ""
        lines += ["", f"gates, on {number}{seen}", *gate_lines(self.gates)]
        lines += ["", "methods"]
        for name, reason in self.methods.items():
            lines.append(f"  {name:<24}{'applies' if reason is None else f'no: {reason}'}")
        return "\n".join(lines)

    __repr__ = __str__


def inspect_model(
    model: Model | nn.Module | str,
    *,
    size: Size | None = None,
    images: Any = None,
    ablate: bool = False,
) -> Report:
    """Run one pass of a model on noise and report what was observed and what applies.

    Attention sinks, high-norm tokens and gates are counted on ``images``, given as for
    `visattn.explain` or a folder, or on the noise, where they say little about photographs.
    ``size``, height and width of the input, is needed only for modules that do not declare one.
    With ``ablate`` each gate is also replaced by its mean, one pass per gate and image, to see
    whether the outputs change. Images are read and run a few at a time: memory does not grow with
    their number.
    """
    images = _listed(images)
    known = model if isinstance(model, Model) else load_model(model)
    side = size or known.input_size or Size(224, 224)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 3, *side, generator=generator).to(known.device, known.dtype)
    photos = noise if images is None else images
    operations, proof, unseen = _attention(known, noise)
    facts = {key: value for key, value in known.facts().items() if key != "preprocessing"}
    return Report(
        facts={**facts, "input_size": f"{side.height} x {side.width}"},
        operations=operations,
        proof=proof,
        tokens=_tokens(known, side),
        outliers=_outliers(known, photos) if unseen is None else unseen,
        methods={name: get_method(name)().refusal(known.adapter, side) for name in list_methods()},
        on_images=images is not None,
        gates=gate_report(known, photos, ablate=ablate),
    )


def _listed(images: Any) -> Any:
    """Return the files of a folder, anything else as it is."""
    if isinstance(images, (str, Path)) and Path(images).is_dir():
        return find_images(Path(images))
    return images


def _attention(
    model: Model, noise: torch.Tensor
) -> tuple[tuple[OperationRow, ...], Proof | None, str | None]:
    """Return the operations and their proof, or why there are none."""
    try:
        seen = observe(model.module, noise)
    except CaptureError as error:
        return (), None, str(error)
    rows = (
        OperationRow(op.name, op.shape, op.fused, op.bias is not None, op.axis)
        for op in seen.operations
    )
    return tuple(rows), prove(model.module, noise), None


def _outliers(model: Model, images: Any) -> tuple[OutlierRow, ...] | str:
    """Return the means over the images, a batch at a time, or why they are not known."""
    sites = [site for site in model.adapter.block_sites() if site is not None]
    sums: dict[int, _LayerSums] = {}
    try:
        for batch in batches(images):
            record = record_pass(model, prepare_all(model, batch), sites=sites).record
            for layers in outlier_report(record):
                for layer in layers:
                    sums.setdefault(layer.layer, _LayerSums()).add(layer)
    except (CaptureError, UnsupportedMethodError) as error:
        return str(error)
    return tuple(each.row(layer) for layer, each in sums.items())


@dataclass(eq=False)
class _Mean:
    """A mean of the values that are known: nothing grows with their number."""

    total: float = 0.0
    count: int = 0

    def add(self, value: float | None) -> None:
        if value is not None:
            self.total += value
            self.count += 1

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


@dataclass(eq=False)
class _LayerSums:
    """What is added up of one attention layer over the images."""

    sinks: _Mean = field(default_factory=_Mean)
    sink_share: _Mean = field(default_factory=_Mean)
    prefix_share: _Mean = field(default_factory=_Mean)
    norm_outliers: _Mean = field(default_factory=_Mean)

    def add(self, layer: LayerOutliers) -> None:
        self.sinks.add(None if layer.sinks is None else len(layer.sinks))
        self.sink_share.add(layer.sink_share)
        self.prefix_share.add(layer.prefix_share)
        norms = layer.norm_outliers
        self.norm_outliers.add(None if norms is None else len(norms))

    def row(self, layer: int) -> OutlierRow:
        parts = (self.sinks, self.sink_share, self.prefix_share, self.norm_outliers)
        return OutlierRow(layer, *(each.value for each in parts))


def _tokens(model: Model, side: Size) -> dict[str, str]:
    chain, site = model.adapter.chain(side), model.adapter.cam_site()
    layer = site.reason if isinstance(site, Refusal) else str(site)
    if isinstance(chain, Refusal):
        return {"tokens": chain.reason, "cam layer": layer}
    layout = chain.layout
    height, width = layout.cell
    return {
        "prefix tokens": ", ".join(layout.prefix) or "none",
        "grid": f"{layout.grid.height} x {layout.grid.width} of {height:g} x {width:g} pixels",
        "head reads": _readout(chain.readout),
        "layers": str(len(chain.layers)),
        "approximations": "; ".join(chain.notes) or "none",
        "not walked": ", ".join(sorted(chain.aside)) or "none",
        "cam layer": layer,
    }


def _readout(readout: Readout | Refusal) -> str:
    return readout.reason if isinstance(readout, Refusal) else readout.description


def _operation_lines(operations: tuple[OperationRow, ...]) -> list[str]:
    if not operations:
        return ["  none observed"]
    width = max(24, *(len(op.name) + 2 for op in operations))
    return [
        f"  {op.name:<{width}}{_windows(op)}{op.shape[1]} heads, {op.shape[2]} queries x "
        f"{op.shape[3]} keys{', of channels' if op.axis == 'channel' else ''}, "
        f"{'fused' if op.fused else 'explicit'}{', bias' if op.biased else ''}"
        for op in operations
    ]


def _windows(operation: OperationRow) -> str:
    return f"{operation.shape[0]} windows, " if operation.shape[0] > 1 else ""


def _outlier_lines(outliers: tuple[OutlierRow, ...] | str) -> list[str]:
    if isinstance(outliers, str):
        return [f"  {outliers}"]
    return [
        f"  layer {row.layer:<4}sinks {_number(row.sinks)} with {_percent(row.sink_share)} of the "
        f"attention, prefix {_percent(row.prefix_share)}, high norm {_number(row.norm_outliers)}"
        for row in outliers
    ]


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:g}" if value == int(value) else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _proof_lines(proof: Proof | None) -> list[str]:
    if proof is None:
        return ["  nothing to prove"]
    same = "identical bit for bit" if proof.outputs_identical else "CHANGED"
    return [
        f"  outputs under observation      {same}",
        f"  |softmax(qk)v - output|        {proof.product_error:.1e}",
        f"  |row sum - 1|                  {proof.row_sum_error:.1e}",
        f"  verdict                        {'holds' if proof.holds else 'FAILS'}",
    ]
