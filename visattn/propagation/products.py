"""Elementwise products of two activations: gates, and factors that share the gradient."""

from __future__ import annotations

from typing import Any

import torch

from visattn.propagation.ancestry import GATES, SOFTMAX, passes_only
from visattn.propagation.call import Call, Handlers, is_activation, named, settled
from visattn.propagation.scaled import scaled


def multiplication(call: Call) -> Any:
    """Run a product: a gate or attention weight is constant, else each factor gets its share."""
    one, other = call.given(0, "input"), call.given(1, "other")
    if not (is_activation(one) and is_activation(other)):
        return call.plain()
    kept, given = shared(call, one, other)
    if not call.in_place:
        return call.run({0: ("input", kept), 1: ("other", given)})
    return settled(one, torch.mul(kept.clone(), given))


def added_product(call: Call) -> Any:
    """Run ``addcmul(input, tensor1, tensor2)``."""
    added, one, other = (
        call.given(place, name) for place, name in enumerate(("input", "tensor1", "tensor2"))
    )
    if is_activation(one) and is_activation(other):
        one, other = shared(call, one, other)
        return call.run({1: ("tensor1", one), 2: ("tensor2", other)})
    result = call.plain()
    return result if is_activation(added) else call.noted(result, added)


def shared(call: Call, one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both factors with their shares of the gradient."""
    kinds = frozenset[str]()
    if call.rules.attention == "value":
        kinds |= SOFTMAX
    if call.rules.activation == "gate":
        kinds |= GATES
    gates = [bool(kinds) and passes_only(factor, kinds) for factor in (one, other)]
    if gates[0] != gates[1]:
        return (one.detach(), other) if gates[0] else (one, other.detach())
    if call.rules.product == "half":
        return scaled(one, 0.5), scaled(other, 0.5)
    return one, other


HANDLERS: Handlers = {
    **dict.fromkeys(named("mul mul_ multiply __mul__ __rmul__ __imul__"), multiplication),
    **dict.fromkeys(named("addcmul"), added_product),
}
