"""Bench: a model that runs and explains inputs in full batches, and counts what that takes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from visattn.errors import VisattnError
from visattn.evaluation.trial import Trial
from visattn.explanation import Request, explain_batch
from visattn.models import Model, Prepared
from visattn.saliency import SaliencyMap

BATCH = 32
EXPLAINED = 8


class Bench:
    """A model under evaluation.

    Attributes:
        model: the model.
        batch_size: inputs in one forward pass of a metric.
        passes: forward passes of metrics so far, one for each input.
        seconds: spent inside these.
        explanations: maps that metrics computed, beyond the ones they judge.
    """

    def __init__(self, model: Model, batch_size: int = BATCH) -> None:
        self.model, self.batch_size = model, batch_size
        self.passes, self.explanations, self.seconds = 0, 0, 0.0

    def outputs(self, inputs: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the output (1, ...) of each input (channel, row, col), in order.

        Inputs are taken one batch at a time, so that an iterator of many costs the memory of one
        batch; inputs of another shape begin a new batch.
        """
        for batch in _batches(inputs, self.batch_size):
            stacked = torch.stack(batch).to(self.model.device, self.model.dtype)
            yield from torch.split(self.run(stacked), 1)

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the outputs (batch, ...) of inputs (batch, channel, row, col)."""
        start = time.perf_counter()
        found = self.model.run(batch)
        self.seconds += time.perf_counter() - start
        self.passes += batch.shape[0]
        return found

    def explain(
        self,
        prepared: Sequence[Prepared],
        trial: Trial,
        targets: Sequence[Any],
        model: Model | None = None,
    ) -> list[SaliencyMap | VisattnError]:
        """Return the map of each input, or why it has none.

        ``model`` is another one than the bench's own, such as one with random weights.
        """
        self.explanations += len(prepared)
        return explained(model or self.model, prepared, trial, targets)


def explained(
    model: Model, prepared: Sequence[Prepared], trial: Trial, targets: Sequence[Any]
) -> list[SaliencyMap | VisattnError]:
    """Return the map of each input by a method, or why it has none, in batches of 8.

    Inputs of a batch that failed are explained once more, each alone: one must not fail the others.
    """
    found: list[SaliencyMap | VisattnError] = []
    for start in range(0, len(prepared), EXPLAINED):
        part = range(start, min(start + EXPLAINED, len(prepared)))
        answers = _answers(model, prepared, trial, targets, part)
        if len(part) > 1 and any(isinstance(each, VisattnError) for each in answers):
            alone = [_answers(model, prepared, trial, targets, [place]) for place in part]
            answers = [answer for (answer,) in alone]
        found += answers
    return found


def _answers(
    model: Model,
    prepared: Sequence[Prepared],
    trial: Trial,
    targets: Sequence[Any],
    places: Sequence[int],
) -> list[SaliencyMap | VisattnError]:
    """Return the answers for the inputs at some places, from one batch."""
    target = [targets[place] for place in places] if trial.class_specific else None
    request = Request(trial.method, target, dict(trial.options))
    batch = [prepared[place] for place in places]
    return [answer for (answer,) in explain_batch(model, batch, [request])]


def _batches(inputs: Iterable[torch.Tensor], size: int) -> Iterator[list[torch.Tensor]]:
    batch: list[torch.Tensor] = []
    for each in inputs:
        if batch and (len(batch) == size or batch[0].shape != each.shape):
            yield batch
            batch = []
        batch.append(each)
    if batch:
        yield batch
