"""Which rule of relevance each torch function has; a handler returns NotImplemented for none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.utils import _pytree as pytree

from visattn.propagation.call import Call, Handlers, is_activation, named, settled
from visattn.propagation.relevance_rules import (
    Addition,
    Attention,
    Elementwise,
    Identity,
    Product,
    Proportional,
    ZPlus,
)

MOVES = (
    "view reshape view_as reshape_as permute transpose movedim moveaxis swapaxes swapdims t "
    "flatten unflatten ravel unbind chunk split tensor_split squeeze unsqueeze expand expand_as "
    "broadcast_to broadcast_tensors contiguous clone cat concat concatenate stack select narrow "
    "index_select gather __getitem__ roll flip rot90 pad repeat tile repeat_interleave where "
    "masked_fill masked_fill_ max_pool1d max_pool2d max amax adaptive_max_pool2d maximum minimum "
    "pixel_shuffle pixel_unshuffle unfold"
)
NORMS = (
    "layer_norm rms_norm group_norm batch_norm instance_norm local_response_norm normalize softmax"
)
ACTIVATIONS = (
    "gelu relu relu_ relu6 silu silu_ sigmoid sigmoid_ tanh tanh_ mish hardswish hardsigmoid elu "
    "selu celu leaky_relu softplus hardtanh clamp clamp_ dropout dropout_ dropout2d neg __neg__ "
    "negative"
)
CONVERSIONS = "to type type_as float double half bfloat16"
ADDITIONS = "add add_ __add__ __radd__ __iadd__"
SUBTRACTIONS = "sub sub_ subtract __sub__ __rsub__ __isub__"
PRODUCTS = "mul mul_ multiply __mul__ __rmul__ __imul__"
QUOTIENTS = "div div_ divide true_divide __truediv__ __div__ __itruediv__"
SUMS = "mean sum avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d interpolate upsample"


def run_with(call: Call, old: torch.Tensor, new: torch.Tensor) -> Any:
    """Run the function with ``new`` in the place of ``old``; no precision is asked for."""
    args, kwargs = pytree.tree_map(
        lambda leaf: new if leaf is old else leaf, (call.args, call.kwargs)
    )
    return call.func(*args, **{**kwargs, **({"dtype": None} if "dtype" in kwargs else {})})


def moved(call: Call) -> Any:
    """Run a function that selects or re-arranges numbers, whose gradient moves relevance."""
    return call.plain()


def converted(call: Call) -> Any:
    """Leave a conversion to another precision out; one to another device moves numbers."""
    source = call.given(0, "input")
    with torch.no_grad():
        result = call.plain()
    stays = result.device == source.device and result.is_floating_point()
    return source if stays else call.plain()


def identity(kind: type[Identity]) -> Callable[[Call], Any]:
    """Return the handler of functions of one activation through which relevance passes as it is."""

    def handle(call: Call) -> Any:
        (source, *others) = _activations(call)
        return NotImplemented if others else _passed(call, source, kind)

    return handle


def added(call: Call) -> Any:
    """Run an addition: of a constant, or of two activations."""
    one, other = call.given(0, "input"), call.given(1, "other")
    if not (is_activation(one) and is_activation(other)):
        return _passed(call, one if is_activation(one) else other)
    if call.kwargs.get("alpha", 1) != 1:
        return NotImplemented
    fresh = one.clone() if _in_place(call) else one
    shape = _common_shape(one, other)
    result = Addition.apply(fresh.expand(shape), other.expand(shape))
    return settled(one, result) if _in_place(call) else result


def multiplied(call: Call) -> Any:
    """Run a product with a constant, or the gate form ``x g(x)`` of an activation function."""
    one, other = call.given(0, "input"), call.given(1, "other")
    if not (is_activation(one) and is_activation(other)):
        return _passed(call, one if is_activation(one) else other)
    for source, gate in ((one, other), (other, one)):
        if _gates(gate, source) and not _in_place(call):
            return Elementwise.apply(source, lambda x: x * gate)  # noqa: B023  run at once
    return NotImplemented


def divided(call: Call) -> Any:
    """Run a division by a constant."""
    if is_activation(call.given(1, "other")):
        return NotImplemented
    return _passed(call, call.given(0, "input"))


def summed(call: Call) -> Any:
    """Run a sum or mean over some axes."""
    (source, *others) = _activations(call)
    if others:
        return NotImplemented
    return Proportional.apply(source, lambda x: run_with(call, source, x))


def linear(call: Call) -> Any:
    """Run a linear layer or convolution with constant weights."""
    source, weight = call.given(0, "input"), call.given(1, "weight")
    if _activations(call) != [source]:
        return NotImplemented

    def without_bias(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = call.run({0: ("input", x), 1: ("weight", w), 2: ("bias", None)})
        return result

    bias = call.given(2, "bias")

    def run(x: torch.Tensor) -> torch.Tensor:
        lifted = None if bias is None else bias.to(x.dtype)
        changed = {0: ("input", x), 1: ("weight", weight.to(x.dtype)), 2: ("bias", lifted)}
        result: torch.Tensor = call.run(changed)
        return result

    return ZPlus.apply(source, weight, run, without_bias)


def contracted(call: Call) -> Any:
    """Run a matrix product of two activations, or of one with constant weights."""
    one, other = call.given(0, "input"), call.given(1, "other", "mat2")
    if min(one.ndim, other.ndim) < 2:
        return NotImplemented
    if is_activation(one) and is_activation(other):
        return Product.apply(one, other, call.func)
    if is_activation(one):
        return ZPlus.apply(one, other, lambda x: call.func(x, other), call.func)
    return ZPlus.apply(other, one, lambda x: call.func(one, x), lambda x, w: call.func(w, x))


def attended(call: Call) -> Any:
    """Run fused attention; its parts one by one where an operand is no activation."""
    query, key, value = (call.given(i, n) for i, n in enumerate(("query", "key", "value")))
    mask = call.given(3, "attn_mask")
    if call.given(5, "is_causal") or call.kwargs.get("enable_gqa"):
        return NotImplemented
    scale = call.kwargs.get("scale") or query.shape[-1] ** -0.5
    if is_activation(mask) or not all(map(is_activation, (query, key, value))):
        return call.inside(_written_out, query, key, value, mask, scale)
    leading = _common_shape(*(operand[..., 0, 0] for operand in (query, key, value)))
    operands = [each.expand(*leading, *each.shape[-2:]) for each in (query, key, value)]
    return Attention.apply(*operands, mask, scale)


def _written_out(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    scores = torch.matmul(query, key.transpose(-2, -1)) * scale
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask
    return torch.matmul(torch.softmax(scores, dim=-1), value)


def _passed(call: Call, source: torch.Tensor, kind: type[Identity] = Elementwise) -> Any:
    """Run a function through which the relevance of ``source`` passes as it is."""
    wide = source
    if kind is Elementwise:
        tensors = [arg for arg in call.args[:2] if isinstance(arg, torch.Tensor)]
        shape = _common_shape(*tensors, source)
        wide = source if source.shape == shape else source.expand(shape)
    in_place = _in_place(call)
    result: Any = kind.apply(wide, lambda x: run_with(call, source, x.clone() if in_place else x))
    return settled(source, result) if in_place else result


def _common_shape(*tensors: torch.Tensor) -> torch.Size:
    shapes = (tensor.shape for tensor in tensors)
    return torch.Size(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]


def _activations(call: Call) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves((call.args, call.kwargs)) if is_activation(leaf)]


def _in_place(call: Call) -> bool:
    """Return whether the function changes its first argument, by its name or by a flag."""
    flags = (*call.args[1:], call.kwargs.get("inplace"))
    asked = call.func in INPLACE_FLAGS and any(flag is True for flag in flags)
    return call.in_place or asked


def _gates(gate: torch.Tensor, source: torch.Tensor) -> bool:
    """Return whether ``gate`` is a function of ``source``, number by number."""
    node: Any = gate.grad_fn
    while node is not None and node.name() == "ElementwiseBackward":
        node, place = node.next_functions[0]
        if node is not None and node is source.grad_fn and place == source.output_nr:
            return True
    return False


INPLACE_FLAGS = frozenset(named(ACTIVATIONS))
LINEAR = frozenset(named("linear conv1d conv2d conv3d"))
HANDLERS: Handlers = {
    **dict.fromkeys(LINEAR, linear),
    **dict.fromkeys(named("matmul __matmul__ bmm mm"), contracted),
    **dict.fromkeys(named(MOVES), moved),
    **dict.fromkeys(named(NORMS), identity(Identity)),
    **dict.fromkeys(named(ACTIVATIONS), identity(Elementwise)),
    **dict.fromkeys(named(CONVERSIONS), converted),
    **dict.fromkeys(named(ADDITIONS), added),
    **dict.fromkeys(named(SUBTRACTIONS), identity(Elementwise)),
    **dict.fromkeys(named(PRODUCTS), multiplied),
    **dict.fromkeys(named(QUOTIENTS), divided),
    **dict.fromkeys(named(SUMS), summed),
    functional.scaled_dot_product_attention: attended,
}
