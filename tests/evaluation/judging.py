"""Cases to judge: maps of tensors by a method, as the runner hands them to metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import visattn
from visattn.evaluation.bench import Bench, explained
from visattn.evaluation.case import Case
from visattn.evaluation.sample import Sample
from visattn.evaluation.trial import Trial
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.saliency import SaliencyMap
from visattn.targets import resolve


def judged(
    model: visattn.Model,
    method: str,
    tensors: Sequence[torch.Tensor],
    targets: Sequence[Any] | None = None,
) -> list[Case]:
    """Return the cases of a method's maps of tensors (channel, row, col)."""
    trial = Trial.read(method, model)
    aims = list(targets or [None] * len(tensors))
    prepared = [model.prepare_tensor(tensor) for tensor in tensors]
    maps = explained(model, prepared, trial, aims)
    cases = []
    for number, (item, aim, found) in enumerate(zip(prepared, aims, maps, strict=True)):
        assert isinstance(found, SaliencyMap), found
        output = model.run(model.stack([item]))
        (resolved,) = resolve([aim], model, output)
        cases.append(Case(Sample(f"image {number}", item, aim), trial, found, output, resolved))
    return cases


def drawn(grid: Any, photo: Size | None = None) -> Case:
    """Return a case of a hand-made map, for metrics that ask nothing else."""
    values = np.asarray(grid, np.float32)
    size = photo or Size(*values.shape)
    geometry = Geometry.plain(size).with_grid(Size(*values.shape))
    found = SaliencyMap(values, geometry, "hand-made", "none")
    model = visattn.load_model(torch.nn.Flatten())
    item = model.prepare_tensor(torch.zeros(3, *size))
    output = torch.zeros(1, 2)
    (resolved,) = resolve([lambda o: o[:, 0]], model, output)
    return Case(Sample("drawn", item), Trial("none", "center"), found, output, resolved)


def values(metric: Any, bench: Bench, cases: Sequence[Case]) -> list[float]:
    """Return the values that a metric measures; fails where a case is excluded."""
    return [verdict.value for verdict in metric.measure(bench, cases)]
