"""The pass that carries relevance: one image, at every attention output (Chefer et al., 2021)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from visattn.errors import CaptureError, UnsupportedMethodError, VisattnError
from visattn.images import Size
from visattn.models.output import as_scores_tensor
from visattn.observation import AttentionRecord, LivePass
from visattn.observation.observer import Observer
from visattn.propagation.relevance import relevance, unknown_between
from visattn.propagation.relevance_twin import twin

PRECISIONS = {"float64": torch.float64, "float32": torch.float32}
CLOSE = {torch.float64: 1e-6, torch.float32: 1e-2}
ROUGH = 0.2  # of the largest output, for half precision


def relevance_record(record: AttentionRecord, image: int, dtype: torch.dtype) -> AttentionRecord:
    """Return one image's operations with the relevance of their outputs as ``output_gradient``.

    The pass runs in ``dtype`` and starts from ``R = (dy/do * o) / y`` at the outputs o, the share
    that each has in the score y: for a class the one-hot vector. Raises `CaptureError` where its
    outputs are not those of the record, `UnsupportedMethodError` where relevance would pass through
    a function that has no rule.
    """
    inputs = record.inputs[image : image + 1]
    with torch.inference_mode(mode=False), torch.enable_grad():
        pixels = inputs.detach().to(dtype, copy=True).requires_grad_()
        live = _live(twin(record.again.module), pixels)
        _require_same(live.outputs, record.outputs[image : image + 1])
        seen = live.differentiated((_start(record, image, live.outputs) * live.outputs).sum()[None])
    for operation in seen.operations:
        if operation.mixing is not None:
            raise UnsupportedMethodError(_mixed(operation.name))
    return replace(
        record,
        operations=seen.operations,
        activations={},
        inputs=inputs,
        outputs=seen.outputs,
        images=record.images[image : image + 1],
        rerun=None,
    )


def relevance_refusal(module: nn.Module, size: Size) -> str | None:
    """Return why relevance cannot be propagated through a model with inputs of ``size``, or None.

    The forward pass is tried on torch's meta device, where shapes are computed and numbers are not,
    and its graph is searched; None also where the model cannot run there.
    """
    try:
        with torch.inference_mode(mode=False), torch.enable_grad():
            pixels = torch.empty(1, 3, *size, device="meta", dtype=torch.float64)
            hollow = twin(module, lambda t: torch.empty_like(t, device="meta"), alone=True)
            live = _live(hollow, pixels.requires_grad_())
    except UnsupportedMethodError as error:
        return str(error)
    except (VisattnError, RuntimeError, NotImplementedError, ValueError, TypeError):
        return None  # the model does not run there, so the pass itself must tell
    mixed = next((op.name for op in live.operations if op.mixing is not None), None)
    if mixed is not None:
        return _mixed(mixed)
    return unknown_between(live.outputs, [each.tensor for each in live.observer.live])


def _live(module: nn.Module, inputs: torch.Tensor) -> LivePass:
    """Return a pass of a module's twin, whose graph hands on relevance."""
    observer = Observer(module)
    with relevance(module, observer):
        outputs = as_scores_tensor(module(inputs))
    return LivePass(observer, {}, outputs)


def _start(record: AttentionRecord, image: int, outputs: torch.Tensor) -> torch.Tensor:
    """Return ``(dy/do * o) / y`` at the outputs (1, ...); the gradient alone where y is 0."""
    leaf = outputs.detach().requires_grad_()
    score = record.again.score_of(leaf, torch.tensor([image]))
    (gradient,) = torch.autograd.grad(score.sum(), leaf)
    value = score.detach().to(leaf.dtype)
    return gradient * leaf.detach() / value if value.abs() > 0 else gradient


def _require_same(found: torch.Tensor, right: torch.Tensor) -> None:
    """Raise `CaptureError` unless the outputs are those that the model gave before."""
    if found.shape == right.shape:
        gap = (found.detach() - right.to(found.dtype)).abs().max()
        if gap <= CLOSE.get(right.dtype, ROUGH) * right.abs().max():
            return
    raise CaptureError(
        f"The relevance pass gives outputs {tuple(found.shape)} that differ from those of the model"
        f" {tuple(right.shape)}: it computes something else in another precision, or at random."
    )


def _mixed(name: str) -> str:
    return f"{name} mixes its heads behind the softmax, for which no rule of relevance exists"
