"""Small gated networks with random weights that are far from their initialisation."""

from __future__ import annotations

from functools import partial
from typing import Any

import timm
import torch
from timm import layers
from torch import nn

SIZE = (64, 96)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return the module in eval mode with norms whose scales and statistics are no identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.copy_(1 + 0.3 * torch.randn(part.weight.shape, generator=generator))
                part.bias.copy_(0.3 * torch.randn(part.bias.shape, generator=generator))
                part.running_mean.copy_(0.2 * torch.randn(part.bias.shape, generator=generator))
                part.running_var.copy_(0.5 + torch.rand(part.bias.shape, generator=generator))
    return module.eval()


def gated(attention: Any, seed: int = 0) -> nn.Module:
    """Return a ResNet with one residual block per stage and an attention layer in each."""
    torch.manual_seed(seed)
    narrow = {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 48), "num_classes": 5}
    if attention == "sk":
        module = timm.create_model("skresnet18", num_classes=5)
    elif attention == "splat":
        module = timm.create_model("resnest14d", num_classes=5)
    else:
        module = timm.create_model("resnet10t", **narrow, block_args={"attn_layer": attention})
    return randomised(module, seed)


ATTENTION: dict[str, Any] = {
    "se": "se",
    "ese": "ese",
    "eca": "eca",
    "ceca": "ceca",
    "ge_global": partial(layers.GatherExcite, use_mlp=False),
    "ge_extent": partial(layers.GatherExcite, use_mlp=False, extent=4),
    "gc": "gc",
    "gc_add": "gca",
    "cbam": "cbam",
    "light_cbam": "lcbam",
    "coord": "coord",
    "simple_coord": "scoord",
    "local": "ela",
    "strip": "strip",
    "sk": "sk",
    "splat": "splat",
}


def images(batch: int = 2, seed: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, *SIZE, generator=generator)
