"""Convolutions and batch norms of small random models, put in a state more like trained ones."""

from __future__ import annotations

import torch
from torch import nn

BRANCH, REST = 0.3, 4


def centred(module: nn.Module) -> nn.Module:
    """Return ``module``, the centre of stride-1 kernels `REST` times larger than the rest together.

    Random kernels move evidence from cell to cell, and walks take those of stride 1 for the
    identity. Nearly centred ones leave places to the layout alone.
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Conv2d) and part.stride == (1, 1) and part.kernel_size != (1, 1):
                row, col = (size // 2 for size in part.kernel_size)
                centre = part.weight[:, :, row, col].clone()
                largest = part.weight.abs().amax(dim=(2, 3))
                part.weight.div_(REST * part.weight[0, 0].numel())
                part.weight[:, :, row, col] = largest.copysign(centre)
    return module


def calibrated(module: nn.Module, size: tuple[int, int]) -> nn.Module:
    """Return ``module`` after its batch norms met noise of ``size``; branches at zero get `BRANCH`.

    Without that tokens differ little from their mean, and attention among them is uniform.
    """
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d | nn.BatchNorm1d):
                part.momentum = 1.0
                if not part.weight.any():
                    part.weight.fill_(BRANCH)
        module.train()(torch.randn(4, 3, *size))
    return module.eval()
