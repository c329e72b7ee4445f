"""Attention: where weights meet values, fused or written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from visattn.propagation.ancestry import GATES, SOFTMAX, passes_only
from visattn.propagation.call import Call, Handlers, is_activation, named
from visattn.propagation.gamma import product_with_constant
from visattn.propagation.scaled import scaled


def fused(call: Call) -> Any:
    """Run ``scaled_dot_product_attention``, its kernel unchanged.

    ``value``: weights are constant. ``half``: output and scores are each halved between their two
    factors, so queries and keys get 1/4 of their gradient and values 1/2; where a query is no
    activation (a learned latent), its share is the key's.
    """
    names = ("query", "key", "value", "attn_mask")
    operands = [call.given(place, name) for place, name in enumerate(names)]
    query, key, value, mask = (is_activation(operand) for operand in operands)
    if call.rules.attention == "value":
        shares = [0.0, 0.0, 1.0, 0.0]
    elif call.rules.attention == "half":
        weights = 0.5 if value else 1.0
        score = 0.5 * weights if query and key else weights
        shares = [score, score, 0.5 if query or key or mask else 1.0, weights]
    else:
        return call.plain()
    return call.run(
        {
            place: (name, scaled(operand, share) if is_activation(operand) else operand)
            for place, (name, operand, share) in enumerate(
                zip(names, operands, shares, strict=True)
            )
        }
    )


def contraction(call: Call) -> Any:
    """Run a matrix product of two tensors."""
    one, other = call.given(0, "input"), call.given(1, "mat2", "other", "vec2", "tensor2")
    if is_activation(one) and is_activation(other):
        return call.func(*shared(call, (one, other)))
    return product_with_constant(call, one, other)


def added_contraction(call: Call) -> Any:
    """Run ``baddbmm`` or ``addmm``: a matrix product that is added to something."""
    added, one = call.given(0, "input"), call.given(1, "batch1", "mat1")
    other = call.given(2, "batch2", "mat2")
    if is_activation(one) and is_activation(other):
        one, other = shared(call, (one, other))
        second = ("batch1", "batch2") if "batch" in call.func.__name__ else ("mat1", "mat2")
        return call.run({1: (second[0], one), 2: (second[1], other)})
    result = call.plain()
    beta = call.kwargs.get("beta", 1)
    return result if is_activation(added) else call.noted(result, added * beta)


def einsum(call: Call) -> Any:
    """Run ``einsum`` on two or more tensors."""
    equation, *operands = call.args
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    if sum(map(is_activation, operands)) < 2:
        return call.plain()
    return call.func(equation, *shared(call, operands))


def shared(call: Call, operands: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return factors of a product with their shares of its gradient."""
    active = [operand for operand in operands if is_activation(operand)]
    for kinds in (SOFTMAX, GATES) if call.rules.attention == "value" else ():
        weights = [operand for operand in active if passes_only(operand, kinds)]
        if 0 < len(weights) < len(active):
            return [o.detach() if any(o is w for w in weights) else o for o in operands]
    if "half" in (call.rules.attention, call.rules.product):
        return [scaled(operand, 1 / len(active)) for operand in operands]
    return list(operands)


HANDLERS: Handlers = {
    functional.scaled_dot_product_attention: fused,
    **dict.fromkeys(named("matmul __matmul__ bmm mm mv dot inner"), contraction),
    **dict.fromkeys(named("baddbmm addmm addbmm"), added_contraction),
    torch.einsum: einsum,
}
