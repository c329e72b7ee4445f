"""Rerun: the explained model once more, on changed inputs or with other rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from visattn.adapters import Adapter, Site
from visattn.models.output import as_scores_tensor
from visattn.models.state import undisturbed
from visattn.observation.batch_norm import SoundBatchNorm
from visattn.observation.dropping import dropping
from visattn.observation.observe import LivePass, Observation, observing
from visattn.propagation import PLAIN, Rules, propagating
from visattn.targets import Resolved, probabilities, scores

if TYPE_CHECKING:
    from visattn.observation.record import AttentionRecord


@dataclass(frozen=True, eq=False)
class Rerun:
    """Runs a model again for methods that need more than the pass that was recorded.

    ``index`` (batch,) says for each input which image of the record it belongs to, and so whose
    target is scored; inputs are (batch, channel, row, col), as the model sees them. The module is
    in eval mode meanwhile and everything is restored on every exit.

    Attributes:
        module: the model's module.
        adapter: its family.
        targets: the explained scalar of each image of the record; empty for class-agnostic passes.
    """

    module: nn.Module
    adapter: Adapter
    targets: Sequence[Resolved] = ()

    def outputs(self, inputs: torch.Tensor, rules: Rules = PLAIN) -> torch.Tensor:
        """Return the outputs, in the graph of ``inputs`` where these require a gradient."""
        with undisturbed(self.module), SoundBatchNorm(), propagating(rules, self.module):
            return as_scores_tensor(self.module(inputs))

    def scores(
        self, inputs: torch.Tensor, index: torch.Tensor, rules: Rules = PLAIN
    ) -> torch.Tensor:
        """Return the explained scalar of each input (batch,), differentiable by ``inputs``."""
        return scores(self._chosen(index), self.outputs(inputs, rules))

    def probabilities(self, inputs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return the probability of the explained class (batch,), else the score; no gradient."""
        with torch.no_grad():
            return probabilities(self._chosen(index), self.outputs(inputs))

    @contextmanager
    def keeping(self, tokens: torch.Tensor) -> Iterator[None]:
        """Let passes inside see only ``tokens`` (batch, kept) of their stream, as `dropping`."""
        with dropping(self.adapter, tokens):
            yield

    @contextmanager
    def live(
        self,
        inputs: torch.Tensor,
        *,
        attention: bool = True,
        sites: Sequence[Site] = (),
        rules: Rules = PLAIN,
    ) -> Iterator[LivePass]:
        """Yield one observed pass whose graph is alive: several scores can be differentiated."""
        with observing(
            self.module, inputs, attention=attention, sites=sites, rules=rules, grad=True
        ) as live:
            yield live

    def record(
        self,
        record: AttentionRecord,
        inputs: torch.Tensor,
        index: torch.Tensor,
        *,
        attention: bool = True,
        sites: Sequence[Site] = (),
        rules: Rules = PLAIN,
    ) -> AttentionRecord:
        """Return the record of a pass on changed inputs, with the gradients of their scores."""
        from visattn.observation.record import AttentionRecord

        chosen = self._chosen(index)
        with self.live(inputs, attention=attention, sites=sites, rules=rules) as live:
            seen: Observation = live.differentiated(scores(chosen, live.outputs))
        images = tuple(record.images[int(i)] for i in index) if record.images else ()
        return AttentionRecord(
            operations=seen.operations,
            activations=seen.activations,
            inputs=inputs.detach(),
            outputs=seen.outputs,
            adapter=self.adapter,
            images=images,
            rerun=Rerun(self.module, self.adapter, chosen),
            preprocessing=record.preprocessing,
        )

    def score_of(self, outputs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return the explained scalar (batch,) of outputs that were computed elsewhere."""
        return scores(self._chosen(index), outputs)

    def _chosen(self, index: torch.Tensor) -> list[Resolved]:
        return [self.targets[int(i)] for i in index]
