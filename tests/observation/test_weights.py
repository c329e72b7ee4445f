"""Weights that are mixed over heads, or changed, between softmax and product."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from visattn.errors import CaptureError
from visattn.observation import AttentionOperation, observe, prove

BATCH, HEADS, TOKENS, CHANNELS = 2, 3, 5, 4
Step = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def linear(module: nn.Module, attn: torch.Tensor) -> torch.Tensor:
    return module.linear(attn.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convolution(module: nn.Module, attn: torch.Tensor) -> torch.Tensor:
    return functional.conv2d(attn, module.linear.weight[:, :, None, None], module.linear.bias)


def without_bias(module: nn.Module, attn: torch.Tensor) -> torch.Tensor:
    return functional.linear(attn.movedim(1, -1), module.linear.weight).movedim(-1, 1)


class Talking(nn.Module):
    """Heads mixed by ``step`` before and after the softmax, or only after it."""

    def __init__(self, step: Step, *, before: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.step, self.before = step, before
        self.linear = nn.Linear(HEADS, HEADS).double()

    def attn(self, x: torch.Tensor) -> torch.Tensor:
        scores = x @ x.mT
        return (self.step(self, scores) if self.before else scores).softmax(-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.step(self, self.attn(x)) @ x


def inputs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(BATCH, HEADS, TOKENS, CHANNELS, generator=generator).double()


def score(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.square().flatten(1).sum(1)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", [linear, convolution, without_bias])
def test_talking_heads_keep_the_softmax_and_its_gradient(step: Step, before: bool) -> None:
    module = Talking(step, before=before)
    proof = prove(module, inputs())
    proof.require()
    seen = observe(module, inputs(), score=score)
    (operation,) = seen.operations
    attn = module.attn(inputs()).detach().requires_grad_()
    output = step(module, attn) @ inputs()
    (gradient,) = torch.autograd.grad(score(output).sum(), attn)
    torch.testing.assert_close(operation.weights(), attn.detach())
    torch.testing.assert_close(operation.mixed(operation.weights()), step(module, attn).detach())
    torch.testing.assert_close(operation.gradient_rows(torch.arange(TOKENS)), gradient)
    assert operation.normalizer == "softmax"
    assert (operation.explicit is None) != before
    assert (operation.mixing_bias is None) == (step is without_bias)


def test_more_heads_of_the_output_than_of_the_weights() -> None:
    class More(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(HEADS, 2 * HEADS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return linear(self, (x @ x.mT).softmax(-1)) @ x.repeat(1, 2, 1, 1)

    x = torch.randn(BATCH, HEADS, TOKENS, CHANNELS)
    seen = observe(More(), x, score=score)
    (operation,) = seen.operations
    assert operation.shape == (BATCH, HEADS, TOKENS, TOKENS)
    assert operation.output.shape[1] == 2 * HEADS
    rows = operation.gradient_rows(torch.arange(TOKENS))
    assert rows is not None
    assert rows.shape == operation.shape


def test_mixed_heads_are_not_rearranged() -> None:
    (operation,) = observe(Talking(linear, before=False), inputs()).operations
    assert operation.arranged(BATCH, 1) is operation
    with pytest.raises(CaptureError, match="mixes its 3 heads"):
        operation.arranged(BATCH, HEADS, "bhw")


Change = Callable[[torch.Tensor], torch.Tensor]
CHANGES: dict[str, tuple[Change, str]] = {
    "gated sum, renormalised": (
        lambda attn: (lambda mixed: mixed / mixed.sum(-1).unsqueeze(-1))(
            0.3 * attn + 0.9 * attn.flip(-1).exp().softmax(-1)
        ),
        "softmax",
    ),
    "renormalised in place": (
        lambda attn: (attn * 0.5 + 0.1).div_(attn.sum(-1, keepdim=True) * 0.5 + 0.5),
        "softmax",
    ),
    "gate": (lambda attn: attn * torch.linspace(0, 1, HEADS).double()[:, None, None], "none"),
    "number": (lambda attn: attn * 0.5, "none"),
    "difference": (lambda attn: attn - 0.5 * attn.flip(-1), "none"),
    "masked afterwards": (
        lambda attn: attn.masked_fill(torch.ones(TOKENS, TOKENS).tril() == 0, 0.0),
        "none",
    ),
    "relu of a shift": (lambda attn: (attn - 0.2).relu(), "none"),
    "rolled": (lambda attn: attn.roll(1, dims=-1), "softmax"),
    "squeezed": (lambda attn: attn.unsqueeze(2).squeeze(2), "softmax"),
    "reshaped": (lambda attn: attn.reshape(BATCH * HEADS, -1).view(attn.shape), "softmax"),
    "sliced heads": (lambda attn: attn[:, :2].repeat(1, 2, 1, 1)[:, :3], "softmax"),
    "transposed twice": (lambda attn: attn.transpose(0, 1).mT.transpose(0, 1).mT, "softmax"),
}


class Changed(nn.Module):
    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.change((x @ x.mT).softmax(-1)) @ x


@pytest.mark.parametrize("name", CHANGES)
def test_changed_weights_are_those_that_met_the_value(name: str) -> None:
    change, normalizer = CHANGES[name]
    x = inputs()
    prove(Changed(change), x).require()
    (operation,) = observe(Changed(change), x, score=score).operations
    right = change((x @ x.mT).softmax(-1))
    torch.testing.assert_close(operation.weights(), right)
    assert operation.normalizer == normalizer
    gradient = 2 * (right @ x) @ x.mT
    torch.testing.assert_close(operation.gradient_rows(torch.arange(TOKENS)), gradient)


def test_sliced_queries_and_keys() -> None:
    class Sliced(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            attn = (x @ x.mT).softmax(-1)
            return attn[:, :, :2] @ x + attn[:, :, :2, 1:] @ x[:, :, 1:]

    x = inputs()
    rows, columns = observe(Sliced(), x).operations
    attn = (x @ x.mT).softmax(-1)
    torch.testing.assert_close(rows.weights(), attn[:, :, :2])
    torch.testing.assert_close(columns.weights(), attn[:, :, :2, 1:])
    assert (rows.normalizer, columns.normalizer) == ("softmax", "none")


def test_row_sums_are_proven_for_softmax_alone() -> None:
    change, _ = CHANGES["number"]
    proof = prove(Changed(change), inputs())
    assert proof.holds
    assert proof.row_sum_error == 0.0


def explicit(operation: AttentionOperation) -> torch.Tensor:
    assert operation.explicit is not None
    return operation.explicit


def test_scores_changed_in_part_keep_the_weights_of_the_model() -> None:
    class Part(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scores = x @ x.mT
            scores[:, :, 1:, 1:] = scores[:, :, 1:, 1:] + 3
            return scores.softmax(-1) @ x

    x = inputs()
    (operation,) = observe(Part(), x).operations
    scores = x @ x.mT
    scores[:, :, 1:, 1:] += 3
    torch.testing.assert_close(explicit(operation), scores.softmax(-1))
