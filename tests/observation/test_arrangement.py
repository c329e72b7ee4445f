"""Windows, heads and batch in any order of leading axes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from visattn.errors import CaptureError
from visattn.observation import AttentionOperation, observe

B, W, H, Q, K, C = 2, 3, 4, 5, 6, 7


class Windowed(nn.Module):
    """Fused attention over (batch, window, head), its leading axes put in ``order``."""

    def __init__(self, order: str, *, flat: bool) -> None:
        super().__init__()
        self.order, self.flat = order, flat
        generator = torch.Generator().manual_seed(0)
        self.k = torch.randn(B, W, H, K, C, generator=generator)
        self.v = torch.randn(B, W, H, K, C, generator=generator)
        self.bias = torch.randn(B, W, H, Q, K, generator=generator)

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        found = tensor.permute(*("bwh".index(axis) for axis in self.order), 3, 4)
        return found.flatten(0, 2) if self.flat else found

    def forward(self, q: torch.Tensor) -> torch.Tensor:
        q, k, v, bias = (self.put(part) for part in (q, self.k, self.v, self.bias))
        return functional.scaled_dot_product_attention(q, k, v, bias)


def queries() -> torch.Tensor:
    return torch.randn(B, W, H, Q, C, generator=torch.Generator().manual_seed(1))


def observed(order: str, *, flat: bool) -> AttentionOperation:
    module = Windowed(order, flat=flat)
    seen = observe(module, queries(), score=lambda outputs: outputs.square().sum().reshape(1))
    return seen.operations[0]


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("order", ["bwh", "bhw", "wbh", "whb", "hbw", "hwb"])
def test_every_order_gives_the_same_operation(order: str, flat: bool) -> None:
    operation = observed(order, flat=flat).arranged(B, W, order)
    module = Windowed("bwh", flat=False)
    shape = (B * W, H, Q, K)
    assert operation.shape == shape
    scores = queries() @ module.k.mT * C**-0.5 + module.bias
    torch.testing.assert_close(operation.weights(), scores.softmax(-1).reshape(shape))
    output = scores.softmax(-1) @ module.v
    torch.testing.assert_close(operation.output, output.reshape(B * W, H, Q, C))
    gradient = 2 * output @ module.v.mT
    torch.testing.assert_close(operation.gradient_rows(torch.arange(Q)), gradient.reshape(shape))
    assert operation.bias is not None
    assert operation.bias.shape == shape


def test_explicit_weights_are_arranged() -> None:
    class Explicit(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ x.mT).tanh().softmax(-1) @ x

    x = torch.randn(B, H, W, 5, 4)
    (operation,) = observe(Explicit(), x).operations
    assert operation.explicit is not None
    found = operation.arranged(B, W, "bhw")
    right = (x @ x.mT).tanh().softmax(-1).transpose(1, 2).reshape(B * W, H, 5, 5)
    torch.testing.assert_close(found.weights(), right)


def test_a_bias_that_broadcasts_stays_small() -> None:
    class Biased(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.scaled_dot_product_attention(x, x, x, torch.randn(5, 5))

    (operation,) = observe(Biased(), torch.randn(B * H, W, 5, 4)).operations
    found = operation.arranged(B, W, "bhw")
    assert found.bias is not None
    assert found.bias.shape == (5, 5)
    right = operation.weights().reshape(B, H, W, 5, 5).transpose(1, 2).reshape(B * W, H, 5, 5)
    torch.testing.assert_close(found.weights(), right)


def test_what_is_already_arranged_is_returned() -> None:
    operation = observed("bwh", flat=False)
    assert operation.arranged(B, W) is operation
    assert operation.arranged(B * W, 1, "bhw") is operation
    assert operation.arranged(1, B * W, "wbh") is operation


@pytest.mark.parametrize(
    ("batch", "windows", "order"), [(5, 1, "bwh"), (2, 5, "bwh"), (2, 3, "bw"), (0, 1, "bwh")]
)
def test_sizes_that_do_not_divide_are_an_error(batch: int, windows: int, order: str) -> None:
    with pytest.raises(CaptureError, match=f"not {batch} images x {windows} windows"):
        observed("bwh", flat=True).arranged(batch, windows, order)
