"""Fast paths: torch's own attention modules, which compute otherwise when they are watched.

``nn.MultiheadAttention`` and the transformer encoders call one native kernel for the whole layer
when no gradient is needed, unless a function mode watches. So that outputs stay what they are, the
module first runs unwatched for its result, and runs again under watch for its attention alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from visattn.errors import CaptureError
from visattn.observation.operation import wide

NATIVE = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder)
AGREEMENT = {torch.float64: 1e-9, torch.float16: 2e-2, torch.bfloat16: 1e-1}


class Replay:
    """Whether a module is already being run again, so that the modules inside it run once."""

    running = False


@contextmanager
def watched_fast_paths(module: nn.Module) -> Iterator[None]:
    """Let torch's attention modules inside ``module`` run unwatched and then again under watch.

    Only instances are changed, and put back on every exit.
    """
    replay = Replay()
    with ExitStack() as undo:
        for part in module.modules():
            if isinstance(part, NATIVE):
                undo.enter_context(_forward_of(part, replay))
        yield


@contextmanager
def _forward_of(part: nn.Module, replay: Replay) -> Iterator[None]:
    own = part.__dict__.get("forward")
    part.__dict__["forward"] = partial(_twice, part, part.forward, replay)
    try:
        yield
    finally:
        if own is None:
            del part.__dict__["forward"]
        else:
            part.__dict__["forward"] = own


def _twice(
    part: nn.Module, forward: Callable[..., Any], replay: Replay, *args: Any, **kwargs: Any
) -> Any:
    if replay.running or not _may_be_native(part, (*args, *kwargs.values())):
        return forward(*args, **kwargs)
    replay.running = True
    try:
        with torch._C.DisableTorchFunction():  # noqa: SLF001  the only switch for modes
            result = forward(*args, **kwargs)
        again = forward(*args, **kwargs)
    finally:
        replay.running = False
    _require_agreement(part, _first(result), _first(again))
    return result


def _may_be_native(part: nn.Module, args: tuple[Any, ...]) -> bool:
    """Return whether torch may take its native path: no gradient and no hook inside."""
    tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
    if any(tensor.is_meta for tensor in tensors) or part.training:
        return False
    inside = [child for child in part.modules() if child is not part]
    if any(child._forward_hooks or child._forward_pre_hooks for child in inside):  # noqa: SLF001
        return False
    differentiated = any(tensor.requires_grad for tensor in (*tensors, *part.parameters()))
    return not (torch.is_grad_enabled() and differentiated)


def _first(result: Any) -> torch.Tensor:
    tensor: torch.Tensor = result[0] if isinstance(result, tuple) else result
    return tensor


def _require_agreement(part: nn.Module, native: torch.Tensor, again: torch.Tensor) -> None:
    """Raise `CaptureError` unless both runs agree; padded tokens are zero in the native run."""
    padded = (native == 0).all(dim=-1, keepdim=True)
    difference = (wide(native) - wide(again)).masked_fill(padded, 0.0).abs().max()
    limit = AGREEMENT.get(native.dtype, 1e-4) * max(float(wide(native).abs().max()), 1e-30)
    if not float(difference) <= limit:
        raise CaptureError(
            f"The native path of {type(part).__name__} differs by {float(difference):.1e} from the "
            "same module run step by step, so its attention cannot be shown; "
            "torch.backends.mha.set_fastpath_enabled(False) makes it run step by step."
        )
