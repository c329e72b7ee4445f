"""Small models with random, sharpened attention: one of every token arrangement."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.models.vision_transformer import (
    ParallelScalingBlock,
    ParallelThingsBlock,
    ResPostBlock,
)
from torch import nn

from visattn.adapters import Chain, Readout

SIZE = (48, 80)
GRID = (3, 5)
SHARP = 8.0


def vit(**changes: Any) -> nn.Module:
    small = {"img_size": SIZE, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5}
    return timm.create_model(changes.pop("name", "vit_tiny_patch16_224"), **{**small, **changes})


def eva(**changes: Any) -> nn.Module:
    return vit(**{"name": "eva02_tiny_patch14_224", "patch_size": 16, **changes})


def beit(**changes: Any) -> nn.Module:
    return vit(**{"name": "beit_base_patch16_224", **changes})


def narrow(name: str, **changes: Any) -> nn.Module:
    """Return a ResNet with one thin block per stage."""
    thin = {"layers": (1, 1, 1, 1), "channels": (16, 24, 32, 48), "num_classes": 5}
    return timm.create_model(name, **thin, **changes)


VITS: dict[str, Callable[[], nn.Module]] = {
    "class": vit,
    "distilled": lambda: vit(name="deit_tiny_distilled_patch16_224"),
    "registers": lambda: vit(reg_tokens=4, no_embed_class=True),
    "mean": lambda: vit(class_token=False, global_pool="avg"),
    "class_but_mean": lambda: vit(global_pool="avg"),
    "registers_mean_all": lambda: vit(
        class_token=False, reg_tokens=2, global_pool="avg", pool_include_prefix=True
    ),
    "latent_pool": lambda: vit(class_token=False, global_pool="map"),
    "latent_pool_registers": lambda: vit(class_token=False, reg_tokens=3, global_pool="map"),
    "refined_pool": lambda: vit(global_pool="prr", class_token=False),
    "headless": lambda: vit(num_classes=0, init_values=0.5),
    "qk_norm": lambda: vit(qk_norm=True),
    "parallel": lambda: vit(block_fn=ParallelThingsBlock),
    "parallel_scaling": lambda: vit(block_fn=ParallelScalingBlock),
    "post_norm": lambda: vit(block_fn=ResPostBlock, class_token=False, global_pool="avg"),
    "eva_class": lambda: eva(global_pool="token"),
    "eva_mean": eva,
    "eva_registers": lambda: eva(num_reg_tokens=4, global_pool="token"),
    "eva_latent_pool": lambda: eva(global_pool="map"),
    "beit_mean": beit,
    "beit_class": lambda: beit(global_pool="token"),
    "beit_shared_bias": lambda: beit(
        use_rel_pos_bias=False, use_shared_rel_pos_bias=True, global_pool="token"
    ),
}
CNNS: dict[str, Callable[[], nn.Module]] = {
    "efficientnet": lambda: timm.create_model("test_efficientnet", num_classes=5),
    "resnet": lambda: timm.create_model("test_resnet", num_classes=5),
    "cbam": lambda: narrow("resnet10t", block_args={"attn_layer": "cbam"}),
    "global_context": lambda: narrow("resnet10t", block_args={"attn_layer": "gc"}),
    "selective_kernel": lambda: narrow("skresnet18"),
}


@dataclass(frozen=True)
class Member:
    """The smallest member of a family, shrunk, for the proofs in tests/adapters/test_families.py.

    Attributes:
        make: builds it with random weights.
        size: height and width of its input, not square wherever the family allows it.
        head: (module, side, axes) of the tensor whose tokens the head reads, as in `Site`; None
            where the head has no such tensor (say why in the family's file).
        reach: how many cells of the finest grid the token that changes most may lie away from the
            changed patch (overlapping or strided convolutions before the attention).
    """

    make: Callable[[], nn.Module]
    size: tuple[int, int] = SIZE
    head: tuple[str, str, str] | None = None
    reach: int = 0


def _families() -> dict[str, Member]:
    """Collect ``MEMBERS`` of every module in this package: one new file is one new family."""
    found: dict[str, Member] = {}
    for part in pkgutil.iter_modules(__path__):
        found |= importlib.import_module(f"{__name__}.{part.name}").MEMBERS
    return found


FAMILIES: dict[str, Member] = _families()
ALL = {**VITS, **CNNS, **{name: member.make for name, member in FAMILIES.items()}}


def build(name: str, seed: int = 0) -> nn.Module:
    """Return a model in eval mode whose attention is far from uniform."""
    torch.manual_seed(seed)
    module = ALL[name]().eval()
    with torch.no_grad():
        for part_name, part in module.named_modules():
            if getattr(part, "weight", None) is None:
                continue
            if part_name.endswith((".qkv", "in_proj")) and part.weight.shape[0] % 3 == 0:
                rows = part.weight.shape[0] // 3 * 2
                part.weight[:rows] *= SHARP
            elif part_name.endswith((".q_proj", ".k_proj", ".q", ".kv", "attn_pool.latent")):
                part.weight.mul_(SHARP)
        for weight_name, weight in module.named_parameters():
            if "relative_position_bias" in weight_name:
                weight.normal_()
            elif not weight.any() and not weight_name.endswith("bias"):
                weight.normal_(1.0, 0.1)  # branches that start at zero would hide their block
            if weight_name.startswith(("head", "classifier", "fc")):
                weight.normal_()
    return module


def unfuse(module: nn.Module) -> nn.Module:
    """Switch fused attention off on the instances, so that explicit weights exist."""
    for part in module.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = False
    return module


def images(batch: int = 2, size: tuple[int, int] = SIZE, seed: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, *size, generator=generator)


def tokens_read(chain: Chain) -> torch.Tensor:
    """Return the share of each token of the last stream in what the head reads, pooling included.

    An attention pool may read any of its keys.
    """
    assert isinstance(chain.readout, Readout)
    if chain.pool is None:
        return chain.readout.row
    keys = chain.pool.placements[0].keys
    return keys(torch.ones(1, keys.size[0]))[0]


def size_of(name: str) -> tuple[int, int]:
    """Return height and width of the input of a member."""
    return FAMILIES[name].size if name in FAMILIES else SIZE
