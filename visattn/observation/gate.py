"""Gate: what weighed the channels, positions or branches of a feature map in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from visattn.gates import KINDS, Kind
from visattn.images import Size

AXES: dict[Kind, tuple[str, ...]] = {
    "channel": ("batch", "channel"),
    "spatial": ("batch", "row", "col"),
    "pointwise": ("batch", "channel", "row", "col"),
    "branch": ("batch", "branch", "channel"),
    "distribution": ("batch", "row", "col"),
}
SPATIAL: tuple[Kind, ...] = ("spatial", "pointwise", "distribution")


@dataclass(frozen=True, eq=False)
class Gate:
    """A gate g that weighed a feature map x, as the model computed it: ``x' = (offset + g) x``.

    Attributes:
        name: dotted name of the module, with ``#2`` when it ran twice in one pass.
        index: place among the gates of the pass, in execution order.
        family: its entry in `visattn.gates.GATES`.
        kind: what it weighs, as `visattn.gates.GateFamily.kinds`.
        value: g, in float32 or wider, axes as in `axes`; a distribution sums to one over the
            positions, a branch gate with a softmax over the branches. Every gate of a pass has its
            value, in memory of its own: a pointwise one takes as much as its feature map, kept or
            not, because less would no longer be the gate that the model used.
        grid: rows and columns of the feature map.
        bounds: lowest and highest value of its class; None where it is not bounded.
        energy: ``mean_hw |x_c|`` before the gate: (batch, channel), or (batch, branch, channel);
            None for a distribution, which multiplies nothing.
        inputs, outputs: x and x' (batch, channel, row, col), branches side by side on the channel
            axis; only for gates that were asked to be kept.
        gradient: derivative of the explained score by ``outputs``, or None.
        offset: what the class adds to the gate before it multiplies, as `GateFamily.offset`; 0 for
            most.
    """

    name: str
    index: int
    family: str
    kind: Kind
    value: torch.Tensor
    grid: Size
    bounds: tuple[float, float] | None = None
    energy: torch.Tensor | None = None
    inputs: torch.Tensor | None = None
    outputs: torch.Tensor | None = None
    gradient: torch.Tensor | None = None
    offset: float = 0.0

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of ``value``."""
        return AXES[self.kind]

    @property
    def multiplier(self) -> torch.Tensor:
        """What the feature map was multiplied with, ``offset + g``, axes as those of ``value``."""
        return self.value + self.offset if self.offset else self.value

    @property
    def positions(self) -> int:
        """Number of positions of the feature map."""
        return self.grid.height * self.grid.width

    @property
    def map(self) -> torch.Tensor | None:
        """The gate over positions (batch, row, col), None where it does not depend on them.

        Of a pointwise gate the mean over channels; of a distribution its value times the number of
        positions, so that a uniform one is 1 everywhere.
        """
        if self.kind == "pointwise":
            return self.value.mean(dim=1)
        if self.kind == "distribution":
            return self.value * self.positions
        return self.value if self.kind == "spatial" else None


IDLE = "it did not run in this pass"


@dataclass(frozen=True)
class Missed:
    """A module of a gate class whose gate was not seen: its name, its class, and why."""

    name: str
    kind: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}): {self.reason}"


@dataclass(frozen=True)
class Keep:
    """Which gates keep their input and output, so that memory does not grow with the layers.

    Attributes:
        kinds: among gates of these kinds.
        layer: None for the last that ran; a number in execution order, negative from the end; or
            the name of a module.
        maps: whether only gates of feature maps with more than one position count.
    """

    kinds: Sequence[Kind] = KINDS
    layer: int | str | None = None
    maps: bool = True

    def counts(self, gate: Gate) -> bool:
        """Return whether a gate is one of those that are counted."""
        return gate.kind in self.kinds and (gate.positions > 1 or not self.maps)

    def chosen(self, gates: Sequence[Gate]) -> Gate | None:
        """Return the gate that is meant, None where there is none."""
        counted = [gate for gate in gates if self.counts(gate)]
        if isinstance(self.layer, str):
            return next((gate for gate in counted if gate.name == self.layer), None)
        index = -1 if self.layer is None else self.layer
        return counted[index] if -len(counted) <= index < len(counted) else None
