"""Every form in which attention is written, against dense float64 attention."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from visattn.observation import AttentionOperation, observe

BATCH, HEADS, TOKENS, CHANNELS = 2, 3, 5, 4
Form = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Toy(nn.Module):
    """Attention over (batch, head, token, channel), written as ``form`` writes it."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.qkv = form, nn.Linear(8, 3 * HEADS * CHANNELS).double()

    def operands(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        parts = self.qkv(tokens).reshape(BATCH, TOKENS, 3, HEADS, CHANNELS)
        return list(parts.permute(2, 0, 3, 1, 4).unbind(0))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.form(*self.operands(tokens))


def tokens() -> torch.Tensor:
    return torch.randn(BATCH, TOKENS, 8, generator=torch.Generator().manual_seed(1)).double() * 2


def score(outputs: torch.Tensor) -> torch.Tensor:
    factors = torch.linspace(-1, 1, outputs[0].numel()).double().reshape(outputs.shape[1:])
    return (outputs * factors).flatten(1).sum(1)


def softmax(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return (q @ k.mT).softmax(-1)


def left_value(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (v.mT @ softmax(q, k).transpose(-2, -1)).mT


def channels_first(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (part.mT.contiguous() for part in (q, k, v))
    return (v @ (q.transpose(-2, -1) @ k).softmax(dim=-1).transpose(-2, -1)).mT


def softmax_over_rows(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (v.mT @ torch.softmax(k @ q.mT, dim=-2)).mT


def scores_transposed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (k @ q.mT).transpose(2, 3).softmax(3) @ v


def einsums(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    attn = torch.einsum("bhid,bhjd->bhij", q, k).softmax(-1)
    return torch.einsum("b h i j, b h j d -> b h i d", attn, v)


def einsum_heads_last(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    attn = torch.einsum("...qhd,...khd->...hqk", q, k).softmax(-1)
    return torch.einsum("...hqk,...khd->...qhd", attn, v).transpose(1, 2)


def einsum_value_first(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.einsum("bhjd,bhij->bhid", v, softmax(q, k))


def batched(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    return torch.bmm(torch.bmm(q, k.mT).softmax(-1), v).unflatten(0, (BATCH, HEADS))


def batched_addition(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (part.flatten(0, 1) for part in (q, k, v))
    bias = torch.zeros(BATCH * HEADS, TOKENS, TOKENS).double()
    scores = torch.baddbmm(bias, 2 * q, k.mT, beta=1, alpha=0.5)
    return torch.bmm(scores.softmax(-1), v).unflatten(0, (BATCH, HEADS))


def five_axes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    q, k, v = (part[:, None] for part in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, scale=1.0)[:, 0]


def broadcast_sum(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (softmax(q, k).unsqueeze(-1) * v.unsqueeze(2)).sum(dim=-2)


def broadcast_sum_kept(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (v.unsqueeze(2) * softmax(q, k)[..., None]).sum(3, keepdim=True).squeeze(3)


def reshaped(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    attn = softmax(q, k).view(BATCH * HEADS, TOKENS, TOKENS)
    return torch.bmm(attn, v.flatten(0, 1)).view(BATCH, HEADS, TOKENS, CHANNELS)


def cast(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return functional.softmax(q @ k.mT, dim=-1, dtype=torch.float64).to(q.dtype).contiguous() @ v


def in_place(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    attn = q @ k.mT
    attn *= 2
    attn /= 4
    attn.mul_(2)
    attn += torch.zeros(TOKENS, TOKENS)
    return attn.softmax(-1) @ v


def stable(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    attn = q @ k.mT
    return (attn - attn.amax(dim=-1, keepdim=True)).softmax(-1) @ v


def tensor_scale(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scale = torch.tensor([1.0, 2.0, 4.0]).double().reshape(HEADS, 1, 1)
    return ((q / scale) @ k.mT * scale).softmax(-1) @ v


def keyword(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.matmul(input=torch.softmax(input=q @ k.mT, dim=-1), other=v)


def gathered(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return softmax(q, k).permute(1, 0, 2, 3).permute(1, 0, 2, 3) @ v


RECOVERED: dict[str, Form] = {
    form.__name__: form
    for form in (
        left_value, channels_first, softmax_over_rows, scores_transposed, einsums, batched,
        einsum_value_first, batched_addition, five_axes, reshaped, cast, in_place, stable,
        tensor_scale, keyword, gathered, einsum_heads_last,
    )
}  # fmt: skip
KEPT: dict[str, Form] = {form.__name__: form for form in (broadcast_sum, broadcast_sum_kept)}


def whole(operation: AttentionOperation) -> AttentionOperation:
    order = "bhw" if operation.shape[0] == BATCH * HEADS else "bwh"
    return operation.arranged(BATCH, 1, order)


@pytest.mark.parametrize("name", [*RECOVERED, *KEPT])
def test_weights_output_and_gradient_are_those_of_dense_attention(name: str) -> None:
    module = Toy({**RECOVERED, **KEPT}[name])
    seen = observe(module, tokens(), score=score)
    assert torch.equal(seen.outputs, module(tokens()))
    (operation,) = (whole(op) for op in seen.operations)
    q, k, v = module.operands(tokens())
    attn = softmax(q, k).detach().requires_grad_()
    output = attn @ v
    (gradient,) = torch.autograd.grad(score(output).sum(), attn)
    assert operation.shape == (BATCH, HEADS, TOKENS, TOKENS)
    torch.testing.assert_close(operation.weights(), attn.detach())
    torch.testing.assert_close(operation.value, v.detach())
    torch.testing.assert_close(operation.output, output.detach())
    torch.testing.assert_close(operation.gradient_rows(torch.arange(TOKENS)), gradient)
    assert (operation.explicit is None) == (name in RECOVERED)
    assert operation.normalizer == "softmax"


def test_operations_of_one_module_have_their_own_names() -> None:
    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = functional.scaled_dot_product_attention(x, x, x)
            return softmax(x, x) @ (softmax(x, x) @ x)

    module = nn.Sequential(Twice())
    names = [op.name for op in observe(module, torch.randn(1, 2, 5, 4)).operations]
    assert names == ["0", "0#2", "0#3"]


def test_weights_that_meet_two_values_are_two_operations() -> None:
    class Both(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            attn = softmax(x, x)
            return attn @ x + attn @ x.flip(-1)

    first, second = observe(Both(), torch.randn(1, 2, 5, 4)).operations
    torch.testing.assert_close(first.weights(), second.weights())
    torch.testing.assert_close(first.value, second.value.flip(-1))


def test_one_axis_in_front_is_one_head() -> None:
    class Flat(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return softmax(x, x) @ x

    (operation,) = observe(Flat(), torch.randn(2, 7, 8)).operations
    assert operation.shape == (2, 1, 7, 7)


def test_heads_that_share_keys_and_values() -> None:
    class Shared(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return softmax(x, x[:, :1]) @ x[:, 1:2]

    x = torch.randn(2, 3, 5, 4)
    (operation,) = observe(Shared(), x).operations
    assert operation.shape == (2, 3, 5, 5)
    assert operation.explicit is None
    torch.testing.assert_close(operation.weights(), softmax(x, x[:, :1]))


def test_einsum_of_heads_with_shared_keys() -> None:
    class Shared(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            attn = torch.einsum("blhk,bpk->blhp", x, x[:, :, 0]).softmax(-1)
            return torch.einsum("blhp,bpk->blhk", attn, x[:, :, 1])

    x = torch.randn(2, 5, 3, 4)
    (operation,) = observe(Shared(), x).operations
    right = torch.einsum("blhk,bpk->bhlp", x, x[:, :, 0]).softmax(-1)
    torch.testing.assert_close(operation.weights(), right)
    assert operation.value.shape == (2, 3, 5, 4)
