"""All architectures of timm's four plain files, shrunk, under one and the same examination."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

import visattn
from tests import zoo
from visattn.adapters import Chain, Refusal, find_adapter
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.observation import prove

FILES = ("vision_transformer", "deit", "eva", "beit")
NAMES = [name for file in FILES for name in timm.list_models(module=file)]
SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 3}
DIFFERENTIAL = {
    "vit_dlittle_patch16_reg1_gap_256",
    "vit_dpwee_patch16_reg1_gap_256",
    "vit_dwee_patch16_reg1_gap_256",
}
GRID = (3, 4)
CELL = (1, 2)


def shrunk(name: str) -> nn.Module:
    """Build an architecture with 3 x 4 patches and two narrow blocks, the rest as it is."""
    small = {**SMALL, "num_kv_heads": 2} if "sapiens2" in name else SMALL
    with torch.device("meta"):
        patch = timm.create_model(name, **small).patch_embed.patch_size
    torch.manual_seed(0)
    size = tuple(side * patches for side, patches in zip(patch, GRID, strict=True))
    return timm.create_model(name, **small, img_size=size).eval()


def output_tokens(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Norm of the output's gradient by each token that leaves the last block."""
    seen: list[torch.Tensor] = []
    handle = module.blocks[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    output = module(inputs.clone().requires_grad_())
    handle.remove()
    (gradient,) = torch.autograd.grad((output * torch.randn_like(output)).sum(), seen)
    return gradient[0].norm(dim=1)


@pytest.mark.parametrize("name", NAMES)
def test_layout_readout_and_capture_are_right(name: str) -> None:
    module = shrunk(name)
    size = Size(*module.patch_embed.img_size)
    inputs = torch.randn(1, 3, *size)
    prove(module, inputs).require()
    chain = find_adapter(module).chain(size)
    if isinstance(chain, Refusal):
        assert name in DIFFERENTIAL
        assert "differential attention" in chain.reason
        with pytest.raises(UnsupportedMethodError, match="differential"):
            visattn.explain(module, inputs, method="gae", target=0)
        return
    assert isinstance(chain, Chain)
    assert chain.layout.grid == GRID
    declared = zoo.tokens_read(chain)
    assert (output_tokens(module, inputs) > 0).tolist() == (declared > 0).tolist()
    changed = inputs.clone()
    cell = size.height // 3, size.width // 4
    top, left = (index * side for index, side in zip(CELL, cell, strict=True))
    changed[:, :, top : top + cell[0], left : left + cell[1]] += 3.0
    keys = [visattn.capture(module, x)[0].key for x in (inputs, changed)]
    assert int((keys[0] - keys[1])[0].norm(dim=(0, 2)).argmax()) == chain.layout.token(*CELL)
    for method in ("rollout", "gae"):
        target = 0 if method == "gae" else None
        (found,) = visattn.explain(module, inputs, method=method, target=target)
        assert found.grid.shape == GRID
        assert (found.grid >= 0).all()
        assert found.grid.max() > 0
