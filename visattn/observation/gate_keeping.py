"""GateKeeping: the gates of a pass, and the feature maps of those that were asked for."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from visattn.gates import Kind
from visattn.observation.gate import Gate, Keep
from visattn.observation.gate_product import channels_first, merged


@dataclass(frozen=True, eq=False)
class LiveGate:
    """Where the gradient at a kept gate is to be taken.

    ``edge`` is the place in the graph, not the tensor, which layers behind may overwrite.
    ``blank`` has the shape, type and device of the model's own product, ``layout`` says its axes.
    """

    index: int
    edge: Any
    blank: torch.Tensor
    layout: str

    def bring(self, gradient: torch.Tensor | None) -> torch.Tensor:
        """Return the gradient as `Gate.outputs` is laid out; zeros where there is none."""
        whole = self.blank if gradient is None else gradient.detach()
        return merged(channels_first(whole, self.layout))


class GateKeeping:
    """Gates in execution order; feature maps are let go as soon as it is clear they are not meant.

    Attributes:
        gates: the gates.
        live: places where gradients at kept gates are taken, by index.
    """

    def __init__(self, keep: Sequence[Keep]) -> None:
        self._keep = tuple(keep)
        self.gates: list[Gate] = []
        self.live: dict[int, LiveGate] = {}

    def wants(self, kind: Kind) -> bool:
        """Return whether the feature map of a gate of this kind may be asked for."""
        return any(kind in keep.kinds for keep in self._keep)

    def add(self, gate: Gate, result: torch.Tensor, layout: str) -> None:
        """Add a gate whose product is ``result``, and keep its tensors if they are wanted."""
        self.gates.append(gate)
        self._keep_wanted(gate, result, layout)

    def go_on(self, index: int, factor: torch.Tensor, result: torch.Tensor, layout: str) -> None:
        """Multiply the gate at ``index`` with a further ``factor`` (batch, channel, row, col).

        The two are one gate, and ``result`` is what it now puts out. The gate need not be the
        newest: others may have run between its factors.
        """
        before = self.gates[index]
        gate = replace(before, value=before.multiplier * factor - before.offset)
        self.gates[index] = gate
        self._keep_wanted(gate, result, layout)

    def _keep_wanted(self, gate: Gate, result: torch.Tensor, layout: str) -> None:
        wanted = self._chosen() | self._waiting()
        if gate.index in wanted:
            outputs = merged(channels_first(result.detach(), layout)).clone()
            self.gates[gate.index] = replace(gate, outputs=outputs)
            if result.requires_grad:
                edge = torch.autograd.graph.get_gradient_edge(result)
                blank = result.new_zeros(()).expand(result.shape)
                self.live[gate.index] = LiveGate(gate.index, edge, blank, layout)
        self._let_go(wanted)

    def finish(self) -> None:
        """Let go of what might have been meant and was not."""
        self._let_go(self._chosen())

    def _let_go(self, wanted: Collection[int]) -> None:
        for index, each in enumerate(self.gates):
            if index not in wanted and each.inputs is not None:
                self.gates[index] = replace(each, inputs=None, outputs=None)
                self.live.pop(index, None)

    def _chosen(self) -> set[int]:
        chosen = [keep.chosen(self.gates) for keep in self._keep]
        return {gate.index for gate in chosen if gate is not None}

    def _waiting(self) -> set[int]:
        """Return the newest gates that a layer counted from the end may still turn out to mean."""
        found: set[int] = set()
        for keep in self._keep:
            counted = [gate.index for gate in self.gates if keep.counts(gate)]
            if isinstance(keep.layer, int) and keep.layer < 0:
                found.update(counted[keep.layer :])
        return found
