"""Batch normalisation of one image: the gradient is that of the formula, whatever the strides."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import visattn
from visattn.adapters import Site
from visattn.observation import observe
from visattn.observation.batch_norm import SoundBatchNorm


class Tokens(nn.Module):
    """Convolution, batch normalisation, and then tokens: the strides that mislead torch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)
        self.norm.running_mean.normal_()  # type: ignore[union-attr]
        self.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        nn.init.normal_(self.norm.weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.conv(images)).flatten(2).transpose(1, 2)
        return (tokens * torch.arange(120.0).reshape(15, 8).sin()).sum(dim=1)


def formula(module: Tokens) -> torch.Tensor:
    """d sum(output) / d (input of the normalisation), (channel, row, col)."""
    assert module.norm.running_var is not None
    slope = module.norm.weight / (module.norm.running_var + module.norm.eps).sqrt()
    return torch.arange(120.0).reshape(15, 8).sin().T.reshape(8, 3, 5) * slope[:, None, None]


@pytest.mark.parametrize("batch", [1, 2])
def test_the_gradient_of_an_activation_is_right(batch: int) -> None:
    module = Tokens().eval()
    site = Site("norm", "input", "channels_first")
    seen = observe(
        module, torch.randn(batch, 3, 3, 5), attention=False, sites=[site], score=lambda o: o.sum(1)
    )
    gradient = seen.activations[site].gradient
    assert gradient is not None
    torch.testing.assert_close(gradient[0], formula(module))


def test_gradients_by_the_input_are_right() -> None:
    module = Tokens().eval()
    inputs = torch.randn(1, 3, 3, 5, requires_grad=True)
    with SoundBatchNorm():
        (found,) = torch.autograd.grad(module(inputs).sum(), inputs)
    right = torch.einsum("chw,cd->dhw", formula(module), module.conv.weight[:, :, 0, 0])
    torch.testing.assert_close(found[0], right)


def test_integrated_gradients_of_one_image_are_complete() -> None:
    (found,) = visattn.explain(
        Tokens(), torch.randn(1, 3, 3, 5), method="integrated_gradients", target=2, steps=8, cell=1
    )
    assert abs(found.provenance["completeness_gap"]) < 1e-3
