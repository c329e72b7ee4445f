"""Autocast, half precision, memory formats, frozen weights and callers without gradients."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from visattn.observation import observe, prove


class Attention(nn.Module):
    """One attention, fused, explicit or torch's own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind, self.qkv = kind, nn.Linear(8, 24)
        self.attn = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "module":
            result: torch.Tensor = self.attn(x, x, x, need_weights=False)[0]
            return result
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
        if self.kind == "outside":
            q, k, v = q.float(), k.float(), v.float()
        if self.kind in ("fused", "outside"):
            return functional.scaled_dot_product_attention(q, k, v).mean(1)
        attn = (q @ k.mT * 0.5).softmax(-1)
        if self.kind == "float softmax":
            attn = functional.softmax(q @ k.mT * 0.5, dim=-1, dtype=torch.float32).to(v.dtype)
        return (attn @ v).mean(1)


KINDS = ("fused", "explicit", "float softmax", "module")


def tokens() -> torch.Tensor:
    return 3 * torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(1))


def score(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.float().flatten(1).square().sum(1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("differentiated", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "outside"])
def test_autocast(kind: str, differentiated: bool, dtype: torch.dtype) -> None:
    module = Attention(kind).eval()
    with torch.autocast("cpu", dtype):
        with torch.set_grad_enabled(differentiated):
            plain = module(tokens().requires_grad_(differentiated)).detach()
        seen = observe(module, tokens(), score=score if differentiated else None)
        prove(module, tokens()).require()
    assert torch.equal(seen.outputs, plain)
    (operation,) = seen.operations
    assert operation.output.dtype == dtype
    assert operation.weights().dtype == torch.float32
    exact = observe(module, tokens()).operations[0].weights()
    torch.testing.assert_close(operation.weights(), exact, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_other_precisions(kind: str, dtype: torch.dtype) -> None:
    module = Attention(kind).eval().to(dtype)
    with torch.no_grad():
        plain = module(tokens().to(dtype))
    seen = observe(module, tokens().to(dtype))
    assert torch.equal(seen.outputs, plain)
    prove(module, tokens().to(dtype)).require()
    gradient = observe(module, tokens().to(dtype), score=score).operations[0].output_gradient
    assert gradient is not None
    assert gradient.dtype == dtype


@pytest.mark.parametrize("caller", [nullcontext, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kind", KINDS)
def test_frozen_weights_and_callers_without_gradients(kind: str, caller: Any) -> None:
    module = Attention(kind).eval()
    right = observe(module, tokens(), score=score).operations[0].output_gradient
    module.requires_grad_(False)
    with caller():
        found = observe(module, tokens(), score=score).operations[0].output_gradient
    assert right is not None
    assert found is not None
    torch.testing.assert_close(found, right)


def test_channels_last() -> None:
    class Image(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.qkv = nn.Conv2d(3, 24, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).reshape(2, 3, 2, 4, -1).unbind(1)
            return v @ (q.mT @ k).softmax(-1).mT

    module, x = Image(), torch.randn(2, 3, 4, 5)
    plain = observe(module, x).operations[0]
    module = module.to(memory_format=torch.channels_last)
    seen = observe(module, x.to(memory_format=torch.channels_last), score=score)
    (operation,) = seen.operations
    assert operation.shape == (2, 2, 20, 20)
    torch.testing.assert_close(operation.weights(), plain.weights())
    assert operation.output_gradient is not None
    assert operation.output_gradient.shape == (2, 2, 20, 4)
