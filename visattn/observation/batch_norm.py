"""Gradients through batch normalisation that are right for a single image on the processor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_WATCHED = frozenset({functional.batch_norm, torch.batch_norm})


class SoundBatchNorm(TorchFunctionMode):
    """Lays the gradient of every batch normalisation out in memory as its input is.

    torch (2.14.1, CPU, batch size 1) computes a wrong input gradient, without a word, where one of
    input and output gradient is contiguous and the other has the strides of transposed tokens: the
    usual case of a convolution whose feature map becomes tokens. Outputs are not touched.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        if func in _WATCHED and isinstance(result, torch.Tensor) and result.requires_grad:
            source = args[0] if args else (kwargs or {})["input"]
            if source.shape[0] == 1:
                result.register_hook(  # type: ignore[no-untyped-call]
                    _laid_out_like(source.shape, source.stride())
                )
        return result


def _laid_out_like(
    shape: torch.Size, stride: tuple[int, ...]
) -> Callable[[torch.Tensor], torch.Tensor]:
    def lay_out(gradient: torch.Tensor) -> torch.Tensor:
        into = torch.empty_strided(shape, stride, dtype=gradient.dtype, device=gradient.device)
        return into.copy_(gradient)

    return lay_out
