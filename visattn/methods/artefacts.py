"""Patch tokens that gather attention whatever the image shows there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch

from visattn.adapters import Step
from visattn.methods.walk import Walk
from visattn.outliers import DEVIATIONS, norm_limit, stream_norms

SINK = 5.0


@dataclass(frozen=True, eq=False)
class Artefacts:
    """Attention sinks and norm outliers among the patch tokens of one record.

    A sink receives more than ``sink / N`` attention on average over heads and queries, N the number
    of tokens that can be attended to. A norm outlier exceeds median + ``deviations`` * 1.4826 MAD
    of its image. The two need not coincide. Definitions of this package, after Darcet et al., ICLR
    2024.
    """

    walk: Walk
    sink: float = SINK
    deviations: float = DEVIATIONS
    _received: dict[Step, torch.Tensor | None] = field(default_factory=dict, init=False)

    @cached_property
    def norms(self) -> dict[int, torch.Tensor]:
        """Norms of patch tokens (batch, patch) behind each step, by place, where they were read."""
        return stream_norms(self.walk.record, self.walk.chain)

    def received(self, step: Step) -> torch.Tensor | None:
        """Return the attention (batch, token) that a step's tokens receive; see `Walk.received`."""
        if step not in self._received:
            self._received[step] = self.walk.received(step)
        return self._received[step]

    def share(self, step: Step) -> float:
        """Return 1/N, what a token receives when attention is even."""
        keys = torch.zeros(step.before.tokens)
        for placed in step.placements:
            keys[placed.keys.columns] = 1
        return 1 / float(keys.sum())

    def sinks(self, step: Step) -> torch.Tensor | None:
        """Return which patch tokens (batch, patch) that a step reads are sinks, if any can be."""
        received = self.received(step)
        if received is None:
            return None
        return received[:, step.before.places] > self.sink * self.share(step)

    def outliers(self, place: int) -> torch.Tensor | None:
        """Return which patch tokens (batch, patch) behind a place are norm outliers."""
        norms = self.norms.get(place)
        return None if norms is None else norms > norm_limit(norms, self.deviations)

    def flagged(self, step: Step) -> torch.Tensor:
        """Return which patch tokens (batch, patch) that a step reads are one or the other."""
        place = self.walk.place(step)
        batch, patches = self.walk.record.batch, step.before.patches
        device = self.walk.record.operations[0].value.device
        found = torch.zeros(batch, patches, dtype=torch.bool, device=device)
        for part in (self.sinks(step), self.outliers(place - 1)):
            if part is not None:
                found = found | part
        return found
