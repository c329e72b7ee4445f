"""Rerun: further maps of cases, of a changed input, by a changed method or of a changed model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from visattn.errors import VisattnError
from visattn.evaluation.bench import EXPLAINED, Bench
from visattn.evaluation.case import Case
from visattn.evaluation.sample import Excluded
from visattn.evaluation.trial import Trial
from visattn.models import Model, Prepared
from visattn.saliency import SaliencyMap

NO_SIGNAL = "no signal in a map to compare with"
Further = SaliencyMap | Excluded
Wanted = tuple[Case, Prepared, Any]


def kept_target(case: Case) -> Any:
    """Return what a case's map explains, so that it stays the same for another input or model.

    The index of a class, also where it was chosen as the prediction; for any other score the score
    itself, whose reference (an embedding of the unchanged model) stays as it is.
    """
    index = case.resolved.target.index
    return case.resolved.score if index is None else index


def rerun(
    bench: Bench,
    wanted: Iterable[Wanted],
    *,
    trial: Trial | None = None,
    model: Model | None = None,
) -> Iterator[Further]:
    """Yield a further map for each case, input and target, in order.

    Inputs are taken 8 at a time, so that an iterator of many costs the memory of one batch. By
    default the method and model are those of the cases. What has no map, or one without signal, is
    `Excluded`.
    """
    source = iter(wanted)
    while batch := list(islice(source, EXPLAINED)):
        found: dict[int, Further] = {}
        for places in _alike(batch):
            part = [batch[place] for place in places]
            inputs, targets = [prepared for _, prepared, _ in part], [aim for *_, aim in part]
            answers = bench.explain(inputs, trial or part[0][0].trial, targets, model)
            found |= dict(zip(places, map(_told, answers), strict=True))
        yield from (found[place] for place in range(len(batch)))


def _alike(batch: list[Wanted]) -> Iterator[list[int]]:
    """Yield the places of inputs that have one shape and can share a batch."""
    shapes = [tuple(prepared.tensor.shape) for _, prepared, _ in batch]
    for shape in dict.fromkeys(shapes):
        yield [place for place, each in enumerate(shapes) if each == shape]


def _told(answer: SaliencyMap | VisattnError) -> Further:
    if isinstance(answer, VisattnError):
        return Excluded(f"no map to compare with ({type(answer).__name__})")
    return Excluded(NO_SIGNAL) if answer.no_signal else answer
