"""Attention-like code that is no softmax attention is called by its name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from visattn.errors import CaptureError
from visattn.observation import observe
from visattn.observation.observer import Observer

Code = Callable[[torch.Tensor], torch.Tensor]


class Runs(nn.Module):
    def __init__(self, code: Code) -> None:
        super().__init__()
        self.code = code

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.code(x)


def factorised(x: torch.Tensor) -> torch.Tensor:
    return x @ (x.softmax(dim=2).transpose(-1, -2) @ x)


def efficient(x: torch.Tensor) -> torch.Tensor:
    return x.softmax(dim=-1) @ (x.softmax(dim=-2).mT @ x)


def kernel(x: torch.Tensor) -> torch.Tensor:
    return x.relu() @ (x.relu().mT @ functional.pad(x, (0, 1), value=1.0))


def kernel_einsum(x: torch.Tensor) -> torch.Tensor:
    context = torch.einsum("bhnd,bhne->bhde", x.relu(), x)
    return torch.einsum("bhnd,bhde->bhne", x.relu(), context)


def lambdas(x: torch.Tensor) -> torch.Tensor:
    return x @ (x[:, 0].mT.softmax(dim=-1) @ x[:, 1]).unsqueeze(1)


def state_space(x: torch.Tensor) -> torch.Tensor:
    return (x.mT @ (x.softmax(-2) * x)).mT


def global_context(x: torch.Tensor) -> torch.Tensor:
    return x.mT @ x.mean(-1).softmax(dim=-1).unsqueeze(-1)


def separable(x: torch.Tensor) -> torch.Tensor:
    context = (x * x[..., :1].softmax(dim=2)).sum(dim=2, keepdim=True)
    return x.relu() * context.expand_as(x)


def selective_kernel(x: torch.Tensor) -> torch.Tensor:
    gate = x.mean((2, 3), keepdim=True).unsqueeze(1).expand(-1, 2, -1, -1, -1).softmax(dim=1)
    return (torch.stack([x, x], dim=1) * gate).sum(1)


def split_attention(x: torch.Tensor) -> torch.Tensor:
    gate = x.mean((2, 3)).repeat(1, 2).view(2, 1, 2, -1).transpose(1, 2).softmax(dim=1)
    gate = gate.reshape(2, -1).view(2, -1, 1, 1).reshape(2, 2, 3, 1, 1)
    return (x.repeat(1, 2, 1, 1).reshape(2, 2, 3, 5, 4) * gate).sum(dim=1)


def across_batch(x: torch.Tensor) -> torch.Tensor:
    rows = x.flatten(1)
    return (rows @ rows.transpose(-1, -2)).softmax(dim=-1) @ rows


def three_factors(x: torch.Tensor) -> torch.Tensor:
    attn = (x @ x.mT).softmax(-1)
    return torch.einsum("bhij,bhjd,de->bhie", attn, x, torch.eye(4))


def not_contracted(x: torch.Tensor) -> torch.Tensor:
    return (x @ x.mT).softmax(-2) @ x


def gate(x: torch.Tensor) -> torch.Tensor:
    return x * x.softmax(dim=-1)


KINDS: dict[str, list[Code]] = {
    "linear attention": [factorised, efficient, kernel, kernel_einsum, lambdas, state_space],
    "spatial pooling softmax": [global_context, separable],
    "channel gate softmax": [selective_kernel, split_attention],
    "attention across the batch": [across_batch],
    "unread product": [three_factors, not_contracted],
    "softmax without value": [gate],
}


@pytest.mark.parametrize(
    ("kind", "code"), [(kind, code) for kind, codes in KINDS.items() for code in codes]
)
def test_it_is_called_by_its_name(kind: str, code: Code) -> None:
    module = nn.Sequential(Runs(code))
    x = torch.randn(2, 3, 5, 4)
    with Observer(module) as observer:
        module(x)
    assert not observer.operations
    assert [(other.name, other.kind) for other in observer.others] == [("0", kind)]
    with pytest.raises(CaptureError, match="met no value" if code is gate else kind):
        observe(module, x)


def test_weights_without_query_and_key_are_attention_all_the_same() -> None:
    class Outlook(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attn(x).softmax(-1) @ x

    module, x = Outlook(), torch.randn(2, 3, 5, 4)
    (operation,) = observe(module, x).operations
    torch.testing.assert_close(operation.weights(), module.attn(x).softmax(-1))


def test_a_withdrawn_operation_leaves_order_and_names() -> None:
    class Both(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.scaled_dot_product_attention(x, x, factorised(x))

    module = nn.Sequential(Both(), Both())
    seen = observe(module, torch.randn(2, 3, 5, 4))
    assert [(op.name, op.index) for op in seen.operations] == [("0", 0), ("1", 1)]


def test_a_position_bias_from_two_products_is_no_linear_attention() -> None:
    class Bias(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            table, lookup = torch.randn(3, 9, 9), torch.randn(5, 5, 9)
            half = torch.einsum("nhw,ixh->nixw", table, lookup)
            bias = torch.einsum("nixw,jyw->nijxy", half, lookup)[:, 0, 0]
            return functional.scaled_dot_product_attention(x, x, x, bias)

    with Observer(Bias()) as observer:
        Bias()(torch.randn(2, 3, 5, 4))
    assert len(observer.operations) == 1
    assert not observer.others
