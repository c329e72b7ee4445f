"""The feature map behind a gate, weighted by the gate or by gate and gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from scipy.stats import rankdata

from visattn.adapters import Adapter
from visattn.errors import UnsupportedMethodError
from visattn.gates import Kind
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.gating import cell_of, kept, require_layer, warned
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord, Gate, Keep, wide

MULTIPLYING: tuple[Kind, ...] = ("channel", "spatial", "pointwise", "branch")


@METHODS.register("gate_weighted")
@dataclass(frozen=True)
class GateWeighted(Method):
    """What the gated feature map contributes to the score; or, without gradient, what passes.

    With ``x' = (o + g) x`` the output of a gate, o what its class adds to it (0 for most):
    ``m = (sum_c dy/dx'_c * x'_c)^+``, which is HiResCAM on the gated activation, in units of the
    score; class-specific. With ``gradient=False``: ``m = (sum_c x'_c)^+``, in units of the
    activation; class-agnostic, and a target is refused.
    ``layer``: None for the last gate that ran over a feature map, the name of a module, or a number
    in execution order. Values >= 0.

    Where the score of an image does not depend on the gated map, so that the gradient is exactly
    zero, the map of that image is zero and says that it carries no signal; other images of the
    batch do not matter.

    A gate is not an attribution: ``rank_correlation`` in the provenance is Spearman's correlation
    of the gate with what it weighs contributes, ``k_c = sum_hw dy/dx'_c x'_c`` over channels
    (positions, for a spatial gate).

    Beside one feature map, ``C P``, a pass records every gate as it is (`Gate.value`): those for
    each channel and position take ``C P`` a layer.

    The form is that of HiResCAM (Draelos & Carin, 2020); weighting by the gate is ours.
    """

    class_specific: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    gates: ClassVar[tuple[Kind, ...]] = MULTIPLYING
    memory: ClassVar[str] = "L C P"
    formula: ClassVar[str] = (
        "(sum_c dy/dx'_c x'_c)^+ with x' = g x; without gradient (sum_c x'_c)^+"
    )
    applies: ClassVar[str] = "CNNs with gates"
    paper: ClassVar[str] = "Draelos & Carin, 2020 (arXiv:2011.08891), on the gated map"

    layer: Any = None
    gradient: bool = True

    def __post_init__(self) -> None:
        require_layer(self.layer)
        if not isinstance(self.gradient, bool):
            raise UnsupportedMethodError(f"gradient={self.gradient!r}: True or False.")
        # The option decides what other classes declare: whoever asks the instance gets the answer.
        object.__setattr__(self, "class_specific", self.gradient)
        object.__setattr__(self, "gradients", self.gradient)

    def keeps(self) -> tuple[Keep, ...]:
        """Return the layer's gate."""
        return (Keep(self.gates, self.layer),)

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return one pass, with its backward half where the gradient is used."""
        del adapter, size
        return Passes(1, int(self.gradient))

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the maps; raises where the layer was not kept, or not observed in the graph."""
        del geometries
        gate = kept(record, self.keeps()[0])
        terms, measured = _passing(gate), [dict[str, Any]() for _ in gate.value]
        silent: list[str | None] = []
        if self.gradient:
            gradient = _gradient(gate)
            terms, silent = terms * gradient, _silent(gate.name, gradient)
            measured = [
                {"rank_correlation": correlation(*each)}
                for each in zip(_weights(gate), _contributions(gate, terms), strict=True)
            ]
        return Maps(
            terms.sum(dim=1).clamp(min=0),
            cell_of(record, gate.grid),
            warnings=[warned(record) for _ in gate.value],
            facts={"layer": gate.name, "kind": gate.kind},
            measured=measured,
            silent=silent,
        )


def _passing(gate: Gate) -> torch.Tensor:
    if gate.outputs is None:
        raise UnsupportedMethodError(f"The feature map of {gate.name} was not kept.")
    return wide(gate.outputs)


def _gradient(gate: Gate) -> torch.Tensor:
    if gate.gradient is None:
        raise UnsupportedMethodError(
            f"The feature map behind {gate.name} has no gradient: it was observed without a score, "
            "or is computed where the model keeps no graph. Name another gate with layer=, or use "
            "gradient=False."
        )
    return wide(gate.gradient)


def _silent(name: str, gradient: torch.Tensor) -> list[str | None]:
    """Return for each image why its map is zero, where its own gradient (batch, ...) is, or None.

    No image is judged by the others: a batch gives what its images give alone.
    """
    reason = (
        f"the score of this image does not depend on the feature map behind {name}: its gradient "
        "is exactly zero (layer= names another gate, gradient=False needs none)"
    )
    return [None if read else reason for read in gradient.flatten(1).any(dim=1).tolist()]


def _weights(gate: Gate) -> torch.Tensor:
    """Return the gate (batch, channel), or (batch, position) of a spatial gate."""
    value = gate.value.mean(dim=(2, 3)) if gate.kind == "pointwise" else gate.value
    return value.flatten(1)


def _contributions(gate: Gate, terms: torch.Tensor) -> torch.Tensor:
    """Return what each channel (or position) contributes, as `_weights`."""
    return (terms.sum(dim=1) if gate.kind == "spatial" else terms.sum(dim=(2, 3))).flatten(1)


def correlation(gate: torch.Tensor, contribution: torch.Tensor) -> float | None:
    """Return Spearman's rank correlation of two vectors, None where one of them is constant."""
    ranks = torch.from_numpy(rankdata(torch.stack([gate, contribution]).cpu().numpy(), axis=1))
    centred = ranks - ranks.mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1).prod()
    return float((centred[0] * centred[1]).sum() / norms) if norms > 0 else None
