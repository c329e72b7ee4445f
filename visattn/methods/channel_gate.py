"""Channel gates of convolutional networks: which channels pass, and what they respond to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.channels import ChannelRanking
from visattn.errors import UnsupportedMethodError
from visattn.gates import Kind
from visattn.geometry import Geometry
from visattn.methods.gating import cell_of, kept, require_layer, warned
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord, Gate, Keep, wide


@METHODS.register("channel_gate")
@dataclass(frozen=True)
class ChannelGate(Method):
    """The gated activation of the channels that pass the most energy through a channel gate.

    ``m = mean_(c in top) x'_c`` with ``x'_c = (o + g_c) x_c``, the ``top`` channels being those of
    largest ``u_c = |o + g_c| mean_hw |x_c|``, so that a gate of -0.9 passes more than one of 0.1.
    g is the gate of one ``layer`` (None for the last channel gate that ran, the name of a module,
    or a number in execution order), x the feature map that it multiplies, o what its class adds to
    the gate (`GateFamily.offset`, 0 for most). Where a softmax chooses
    between branches, u and the activation are sums over the branches. Class-agnostic; signed, in
    units of the activation. The map carries the ranking (``SaliencyMap.channels``): the gates and
    energies of all channels, and the strongest channels' own maps.

    A channel gate has no position: the picture shows where the channels that it lets through
    respond, not where it looks.

    Squeeze and excitation: Hu et al., CVPR 2018. The ranking is ours.
    """

    gates: ClassVar[tuple[Kind, ...]] = ("channel", "branch")
    signed: ClassVar[bool] = True
    memory: ClassVar[str] = "C P"
    formula: ClassVar[str] = "mean of g_c x_c over the top u_c = |g_c| mean |x_c|"
    applies: ClassVar[str] = "CNNs with channel or branch gates"
    paper: ClassVar[str] = "Hu, Shen & Sun, CVPR 2018 (SE)"

    layer: Any = None
    top: int = 8

    def __post_init__(self) -> None:
        require_layer(self.layer)
        if self.top < 1:
            raise UnsupportedMethodError(f"top={self.top!r} is not at least 1.")

    def keeps(self) -> tuple[Keep, ...]:
        """Return the layer's gate."""
        return (Keep(self.gates, self.layer),)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the maps and rankings of a layer; raises where it is not there."""
        del geometries
        gate = kept(record, self.keeps()[0])
        activations, passing = _by_channel(gate)
        order = passing.argsort(dim=1, descending=True, stable=True)[:, : self.top]
        strongest = torch.stack(
            [maps[chosen] for maps, chosen in zip(activations, order, strict=True)]
        )
        return Maps(
            strongest.mean(dim=1),
            cell_of(record, gate.grid),
            warnings=[warned(record) for _ in order],
            facts={
                "layer": gate.name,
                "kind": gate.kind,
                "channels": f"{order.shape[1]} of {passing.shape[1]}",
            },
            measured=[{"passing_share": float(share)} for share in _share(passing, order)],
            channels=_rankings(gate, order, strongest),
        )


def _by_channel(gate: Gate) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gated activations (batch, channel, row, col) and the energy (batch, channel)."""
    if gate.outputs is None or gate.energy is None:
        raise UnsupportedMethodError(f"The feature map of {gate.name} was not kept.")
    activations, passing = wide(gate.outputs), gate.multiplier.abs() * gate.energy
    if gate.kind == "branch":
        activations = activations.reshape(*passing.shape, *activations.shape[2:]).sum(dim=1)
        passing = passing.sum(dim=1)
    return activations, passing


def _share(passing: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Return the share (batch,) of the passing energy that is the chosen channels'."""
    total = passing.sum(dim=1).clamp(min=torch.finfo(passing.dtype).tiny)
    return passing.gather(1, order).sum(dim=1) / total


def _rankings(gate: Gate, order: torch.Tensor, strongest: torch.Tensor) -> list[ChannelRanking]:
    energy = gate.value if gate.energy is None else gate.energy
    parts = (order, gate.value.float(), energy.float(), strongest.float())
    arrays = [part.cpu().numpy() for part in parts]
    return [
        ChannelRanking(gate.name, gate.kind, first, values, energies, maps, gate.offset)
        for first, values, energies, maps in zip(*arrays, strict=True)
    ]
