"""From photographs to a record: prepare, observe, differentiate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from visattn.adapters import Site
from visattn.models import Model, Prepared, load_model
from visattn.models.inputs import prepare_all
from visattn.observation.gate import Keep
from visattn.observation.observe import observe
from visattn.observation.record import AttentionRecord
from visattn.observation.rerun import Rerun
from visattn.propagation import PLAIN, Rules
from visattn.saliency import Target
from visattn.targets import Resolved, resolve, scores

NOTHING: Any = object()


class Passed(NamedTuple):
    """A record, and the targets that were resolved on its outputs (empty without a target)."""

    record: AttentionRecord
    targets: list[Target]


def capture(
    model: Model | nn.Module | str,
    images: Any,
    *,
    gradients_of: Any = NOTHING,
    gates: bool = True,
    keep: Sequence[Keep] = (),
) -> AttentionRecord:
    """Run a model once and return the attention operations it computed, in execution order.

    ``images`` as for `visattn.explain`. With ``gradients_of``, a target as for `visattn.explain`,
    each operation also carries the gradient of that score at its output. Its ``gates`` are the
    channel and spatial gates of convolutional networks; those that ``keep`` names carry their
    feature maps, and their gradients. Raises `CaptureError` when neither attention nor, with
    ``gates``, a gate was observed.
    """
    known = model if isinstance(model, Model) else load_model(model)
    prepared = prepare_all(known, images)
    explained = gradients_of is not NOTHING and gradients_of is not None
    target = gradients_of if explained else NOTHING
    return record_pass(known, prepared, target=target, gates=gates, keep=keep).record


def record_pass(
    model: Model,
    prepared: Sequence[Prepared],
    *,
    target: Any = NOTHING,
    attention: bool = True,
    sites: Sequence[Site] = (),
    rules: Rules = PLAIN,
    gradients: bool = True,
    gates: bool = False,
    keep: Sequence[Keep] = (),
) -> Passed:
    """Observe one pass over prepared images; with ``target``, its gradients under ``rules``.

    Without ``gradients`` the target is resolved, for methods that run the model again, and no
    graph is kept.
    """
    inputs = model.stack(prepared)
    resolved: list[Resolved] = []

    def score(outputs: torch.Tensor) -> torch.Tensor:
        resolved.extend(resolve(target, model, outputs))
        return scores(resolved, outputs)

    seen = observe(
        model.module,
        inputs,
        attention=attention,
        sites=sites,
        score=score if gradients and target is not NOTHING else None,
        rules=rules,
        gates=gates,
        keep=keep,
    )
    if target is not NOTHING and not resolved:
        resolved.extend(resolve(target, model, seen.outputs))
        scores(resolved, seen.outputs)  # says now what is wrong with a target
    record = AttentionRecord(
        operations=seen.operations,
        activations=seen.activations,
        inputs=inputs,
        outputs=seen.outputs,
        adapter=model.adapter,
        images=tuple(item.image for item in prepared),
        rerun=Rerun(model.module, model.adapter, tuple(resolved)),
        ledger=seen.ledger,
        gates=seen.gates,
        missed=seen.missed,
        preprocessing=model.preprocessing,
    )
    return Passed(record, [item.target for item in resolved])
