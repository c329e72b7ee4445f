"""Rules: what each torch function does to scores and weights on their way to a value.

A rule is called after the function ran, as ``rule(observer, call)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from visattn.observation.arithmetic import (
    addition,
    changing,
    division,
    masking,
    multiplication,
    same,
    subtraction,
)
from visattn.observation.axes import inner
from visattn.observation.call import Call, is_tensor
from visattn.observation.following import Operands, Scores, Weights
from visattn.observation.multihead import multihead
from visattn.observation.products import contraction, fused, product, summation
from visattn.observation.shapes import reshaping, viewing

if TYPE_CHECKING:
    from visattn.observation.observer import Observer

Rule = Callable[["Observer", Call], None]


def softmax(observer: Observer, call: Call) -> None:
    """Follow a softmax along any axis."""
    source, result = call.source, call.result
    dim = call.given(1, "dim", "axis")
    if not is_tensor(source) or source.ndim < 2 or not isinstance(dim, int):
        return
    axis = dim % source.ndim
    scores: Scores | None = observer.scores.get(source)
    operands = scores.operands if scores is not None else None
    observer.weights[result] = Weights(
        ticket=observer.know_softmax(source),
        scored=scores is not None and scores.origin is None,
        axis=axis,
        size=source.shape[axis],
        inner=inner(source.shape, axis),
        operands=operands if axis >= source.ndim - 2 else None,
        labels=tuple(range(source.ndim)),
    )


def mixing(observer: Observer, call: Call) -> None:
    """Follow talking heads: a linear map, or a 1 x 1 convolution, over the head axis."""
    source, result = call.source, call.result
    if not is_tensor(source) or not observer.knows(source):
        return
    place = source.ndim - 1 if call.func is functional.linear else source.ndim - 3
    weight, bias = call.given(1, "weight"), call.given(2, "bias")
    followed = observer.scores.get(source) or observer.weights[source]
    labels, last = followed.labels, source.ndim - 1
    heads = place >= 0 and labels is not None and labels[place] < last - 1
    if not heads or weight.shape[1:].numel() != source.shape[place]:
        return
    if isinstance(followed, Scores):
        observer.scores[result] = Scores(None, labels)
        return
    own = source if followed.source is None else followed.source
    first = followed.mixing is None and not followed.altered and labels[place] == last - 2
    matrix = weight.detach().reshape(weight.shape[0], -1)
    kept = replace(followed, source=own, mixing=matrix, mixing_bias=_detached(bias))
    observer.weights[result] = kept if first else followed.changed()


def linear(observer: Observer, call: Call) -> None:
    """Follow a linear layer: talking heads, or the projection behind an attention operation."""
    mixing(observer, call)
    if is_tensor(call.source) and not call.source.is_meta:
        observer.project(call.source, call.given(1, "weight"))


def batched_addition(observer: Observer, call: Call) -> None:
    """Follow ``beta * bias + alpha * query @ key^T`` in one call."""
    bias, left, right = call.given(0, "input"), call.given(1, "batch1"), call.given(2, "batch2")
    beta, alpha, result = call.kwargs.get("beta", 1), call.kwargs.get("alpha", 1), call.result
    product(observer, Call(call.func, result, (left, right), {}))
    if result in observer.scores:
        operands: Operands = observer.scores[result].operands.scaled(alpha)
        operands = operands.biased(bias.detach() * beta) if beta else operands
        observer.scores[result] = replace(observer.scores[result], operands=operands)


def reflected(observer: Observer, call: Call) -> None:
    """Follow ``right.__rmatmul__(left)``."""
    product(observer, call._replace(args=call.args[::-1]))


def _detached(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.detach()


_T: Any = torch.Tensor
_F: Any = functional


def _named(names: str) -> list[Callable[..., Any]]:
    """Return the functions and methods of torch with these names, in-place and operator forms."""
    homes = (torch, _T, _F)
    return [getattr(home, name) for name in names.split() for home in homes if hasattr(home, name)]


RULES: dict[Callable[..., Any], Rule] = {
    functional.scaled_dot_product_attention: fused,
    functional.multi_head_attention_forward: multihead,
    **dict.fromkeys(_named("matmul __matmul__ bmm"), product),
    **dict.fromkeys(_named("__rmatmul__"), reflected),
    **dict.fromkeys(_named("baddbmm"), batched_addition),
    torch.einsum: contraction,
    **dict.fromkeys(_named("sum"), summation),
    **dict.fromkeys(_named("mul mul_ multiply __mul__ __rmul__ __imul__"), multiplication),
    **dict.fromkeys(_named("div div_ true_divide __truediv__ __itruediv__"), division),
    **dict.fromkeys(_named("add add_ __add__ __radd__ __iadd__"), addition),
    **dict.fromkeys(_named("sub sub_ __sub__ __isub__ __rsub__"), subtraction),
    **dict.fromkeys(_named("masked_fill masked_fill_"), masking),
    **dict.fromkeys([*_named("softmax"), torch.special.softmax], softmax),
    **dict.fromkeys(
        _named("dropout to float half bfloat16 double type type_as contiguous clone detach"), same
    ),
    **dict.fromkeys(
        _named(
            "where clamp clamp_ clamp_min clamp_max tanh relu relu_ pow square sqrt sigmoid neg "
            "__neg__ __pow__ __setitem__ exp softplus abs leaky_relu gelu "
            "roll flip repeat repeat_interleave tile index_select cat concat gather"
        ),
        changing,
    ),
    functional.linear: linear,
    **dict.fromkeys([torch.conv2d, torch.conv3d], mixing),
    **dict.fromkeys(
        _named(
            "permute transpose swapaxes swapdims movedim moveaxis t select narrow unbind chunk "
            "split squeeze unsqueeze expand __getitem__"
        ),
        viewing,
    ),
    **dict.fromkeys([_T.T.__get__, _T.mT.__get__], viewing),
    **dict.fromkeys(_named("view reshape flatten unflatten view_as reshape_as"), reshaping),
}
