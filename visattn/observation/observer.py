"""Observer: watches torch functions of one thread and recognises softmax attention in them.

Nothing is patched and no hook is set: a `TorchFunctionMode` sees every call, lets it run as it
would have run, and only looks at its operands. Fused attention announces itself. Explicit
attention is recognised by following ``query @ key^T`` through scaling, bias and mask into a
softmax over the last axis and from there into the product with the value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from visattn.errors import CaptureError
from visattn.observation.operation import AttentionOperation, wide

RECOVERY_TOLERANCE = {torch.float64: 1e-9, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Scores:
    """``scale * query key^T + bias`` on its way to a softmax."""

    query: torch.Tensor
    key: torch.Tensor
    scale: float = 1.0
    bias: torch.Tensor | None = None

    def scaled(self, factor: float) -> Scores:
        """Return the scores times a number."""
        bias = None if self.bias is None else self.bias * factor
        return replace(self, scale=self.scale * factor, bias=bias)

    def biased(self, bias: torch.Tensor) -> Scores:
        """Return the scores plus a bias."""
        return replace(self, bias=bias if self.bias is None else self.bias + bias)


class Observer(TorchFunctionMode):
    """Records the attention operations of the code that runs inside its ``with`` block.

    Attributes:
        operations: attention operations in execution order, with their live (undetached) output.
        unreadable: attention whose operands are not (batch, head, token, channel).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._names: dict[int, str] = {id(part): name for name, part in module.named_modules()}
        self._scores: Any = WeakTensorKeyDictionary()
        self._attn: Any = WeakTensorKeyDictionary()
        self._softmaxes: list[str] = []
        self.operations: list[AttentionOperation] = []
        self.unreadable: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        watch = _WATCHED.get(func)
        if watch is not None and isinstance(result, torch.Tensor):
            watch(self, result, *args, **(kwargs or {}))
        return result

    def fused(
        self,
        output: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        """Record one call of ``scaled_dot_product_attention``."""
        name = self._caller()
        if dropout_p:
            raise CaptureError(f"{name}: attention with dropout {dropout_p} is not deterministic.")
        if enable_gqa and query.shape[-3] != key.shape[-3]:
            groups = query.shape[-3] // key.shape[-3]
            key, value = (t.repeat_interleave(groups, dim=-3) for t in (key, value))
        bias = _additive(attn_mask, query.dtype)
        if is_causal:
            bias = _causal(query, key)
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        self._record(name, Scores(query, key, factor, bias), value, output)

    def product(self, result: torch.Tensor, left: Any, right: Any, **_: Any) -> None:
        """Follow a matrix product: the end of an attention, or perhaps the beginning of one."""
        if not (isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)):
            return
        if left in self._attn:
            scores, weights, index = self._attn.pop(left)
            self._softmaxes[index] = ""
            self._record(self._caller(), scores, right, result, weights)
        elif left.ndim >= 3 and right.ndim == left.ndim:
            self._scores[result] = Scores(left, right.transpose(-2, -1))

    def scaling(self, result: torch.Tensor, left: Any, right: Any, **_: Any) -> None:
        """Follow ``scores * number`` and ``number * scores``."""
        scores, factor = (left, right) if _is_tensor(left) else (right, left)
        if scores in self._scores and _is_number(factor):
            self._scores[result] = self._scores[scores].scaled(float(factor))

    def division(self, result: torch.Tensor, left: Any, right: Any, **_: Any) -> None:
        """Follow ``scores / number``."""
        if _is_tensor(left) and left in self._scores and _is_number(right):
            self._scores[result] = self._scores[left].scaled(1.0 / float(right))

    def addition(self, result: torch.Tensor, left: Any, right: Any, **kwargs: Any) -> None:
        """Follow ``scores + bias``."""
        if not (_is_tensor(left) and _is_tensor(right)) or kwargs.get("alpha", 1) != 1:
            return
        if left not in self._scores:
            left, right = right, left
        if left in self._scores and result.shape == left.shape:
            self._scores[result] = self._scores[left].biased(right.detach())

    def masking(self, result: torch.Tensor, scores: Any, mask: Any, value: Any, **_: Any) -> None:
        """Follow ``scores.masked_fill(mask, -inf)``."""
        if _is_tensor(scores) and scores in self._scores:
            zeros = torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device)
            bias = zeros.masked_fill(mask, float(value))
            self._scores[result] = self._scores[scores].biased(bias)

    def softmax(self, result: torch.Tensor, scores: Any, dim: Any = None, **kwargs: Any) -> None:
        """Follow a softmax over the last axis of something that looks like attention scores."""
        axis = kwargs.get("axis", dim)
        if _is_tensor(scores) and axis in (-1, scores.ndim - 1) and scores.ndim >= 3:
            self._attn[result] = (self._scores.get(scores), result, len(self._softmaxes))
            self._softmaxes.append(self._caller())

    def same(self, result: torch.Tensor, source: Any, *_: Any, **__: Any) -> None:
        """Follow operations that hand their input on: dropout in eval mode, casts, contiguous."""
        for known in (self._scores, self._attn):
            if _is_tensor(source) and source is not result and source in known:
                known[result] = known[source]

    @property
    def unclaimed(self) -> tuple[str, ...]:
        """Names of modules whose softmax over the last axis was never multiplied with a value."""
        return tuple(name for name in self._softmaxes if name)

    def _record(
        self,
        name: str,
        scores: Scores | None,
        value: torch.Tensor,
        output: torch.Tensor,
        weights: torch.Tensor | None = None,
    ) -> None:
        if value.ndim != 4 or output.ndim != 4:
            self.unreadable.append(f"{name} (value of shape {tuple(value.shape)})")
            return
        operation = AttentionOperation(
            name, len(self.operations), value.detach(), output, fused=weights is None
        )
        if scores is not None:
            known = replace(
                operation,
                query=scores.query.detach(),
                key=scores.key.detach(),
                scale=scores.scale,
                bias=None if scores.bias is None else scores.bias.detach(),
            )
            if weights is None or _recovers(known, weights):
                self.operations.append(known)
                return
        if weights is not None:
            self.operations.append(replace(operation, explicit=weights.detach()))

    def _caller(self) -> str:
        """Return the name of the innermost module whose method is on the call stack."""
        frame = inspect.currentframe()
        while frame is not None:
            owner = frame.f_locals.get("self")
            if owner is not None and id(owner) in self._names:
                return self._names[id(owner)]
            frame = frame.f_back
        return ""


def _recovers(operation: AttentionOperation, weights: torch.Tensor) -> bool:
    """Return whether the operands found give back the model's own weights, row for row."""
    fits = operation.query is not None and operation.query.shape[:2] == weights.shape[:2]
    if not fits or operation.shape != tuple(weights.shape):
        return False
    for block in operation.row_blocks():
        own = wide(weights.detach()[:, :, block.rows])
        largest = own.amax(dim=-1, keepdim=True)
        close = (block.attn - own).abs() <= RECOVERY_TOLERANCE.get(weights.dtype, 1e-4) * largest
        if not close.all():
            return False
    return True


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or (_is_tensor(value) and value.numel() == 1)


def _additive(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
        ~mask, float("-inf")
    )


def _causal(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    shape = (query.shape[-2], key.shape[-2])
    return torch.full(shape, float("-inf"), device=query.device, dtype=query.dtype).triu(1)


_T = torch.Tensor
_WATCHED: dict[Callable[..., Any], Callable[..., None]] = {
    functional.scaled_dot_product_attention: Observer.fused,
    **dict.fromkeys((torch.matmul, _T.matmul, _T.__matmul__, torch.bmm, _T.bmm), Observer.product),
    **dict.fromkeys((torch.mul, _T.mul, _T.__mul__, _T.__rmul__, _T.mul_), Observer.scaling),
    **dict.fromkeys((torch.div, _T.div, _T.__truediv__, _T.div_), Observer.division),
    **dict.fromkeys((torch.add, _T.add, _T.__add__, _T.__radd__, _T.add_), Observer.addition),
    **dict.fromkeys((torch.masked_fill, _T.masked_fill, _T.masked_fill_), Observer.masking),
    **dict.fromkeys((torch.softmax, _T.softmax, functional.softmax), Observer.softmax),
    **dict.fromkeys(
        (functional.dropout, torch.dropout, _T.to, _T.float, _T.type_as, _T.contiguous),
        Observer.same,
    ),
}
