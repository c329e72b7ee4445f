"""CoaT has no attention weights: walks are refused by name, class activation maps lie right."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

import visattn
from tests import zoo
from visattn.adapters import Refusal, Site, TokenLayout, find_adapter
from visattn.errors import UnsupportedMethodError
from visattn.images import Size

SIZE = (128, 192)
GRID = (4, 6)
CORNERS = ((0, 0), (0, 160), (96, 0), (96, 160))


def coat(name: str, **changes: Any) -> nn.Module:
    dims = (8, 16, 16, 16) if changes.get("parallel_depth") else (8, 8, 16, 24)
    small = {"embed_dims": dims, "serial_depths": (1, 1, 1, 1), "num_heads": 2, "num_classes": 5}
    kernels = {"mlp_ratios": (2, 2, 2, 2), "crpe_window": {3: 2}}
    torch.manual_seed(0)
    module: nn.Module = timm.create_model(
        name, img_size=SIZE, **{**small, **kernels, **changes}
    ).eval()
    return module


MEMBERS = {
    "lite": lambda: coat("coat_lite_tiny"),
    "lite_mean": lambda: coat("coat_lite_tiny", global_pool="avg"),
    "parallel": lambda: coat("coat_tiny", parallel_depth=2),
    "parallel_mean": lambda: coat("coat_tiny", parallel_depth=2, global_pool="avg"),
}
member = pytest.mark.parametrize("name", MEMBERS)


@member
def test_the_walk_is_refused_by_name(name: str) -> None:
    chain = find_adapter(MEMBERS[name]()).chain(Size(*SIZE))
    assert isinstance(chain, Refusal)
    model = visattn.load_model(MEMBERS[name](), image_size=SIZE)
    with pytest.raises(UnsupportedMethodError, match="factorised attention"):
        visattn.explain(model, zoo.images(1, SIZE), method="rollout")


@member
def test_class_activation_maps_lie_on_the_coarsest_grid(name: str) -> None:
    """Noise in one corner changes most the quadrant of the activation around that corner."""
    module = MEMBERS[name]()
    layout, site = find_adapter(module).layout(Size(*SIZE)), find_adapter(module).cam_site()
    assert isinstance(layout, TokenLayout)
    assert isinstance(site, Site)
    seen: list[torch.Tensor] = []
    part = module.get_submodule(site.module)
    handle = part.register_forward_hook(lambda _, __, output: seen.append(output))
    inputs = zoo.images(1, SIZE).repeat(5, 1, 1, 1)
    for index, (top, left) in enumerate(CORNERS, start=1):
        inputs[index, :, top : top + 32, left : left + 32] = 3 * zoo.images(1, (32, 32))[0]
    with torch.no_grad():
        module(inputs)
    handle.remove()
    change = (seen[0][1:] - seen[0][:1]).norm(dim=-1)[:, layout.places].reshape(4, 2, 2, 2, 3)
    quadrants = change.sum(dim=(2, 4)).flatten(1)
    assert quadrants.argmax(dim=1).tolist() == [0, 1, 2, 3]

    model = visattn.load_model(module, image_size=SIZE)
    (shown,) = visattn.explain(model, inputs[:1], method="gradcam", target=2)
    assert shown.grid.shape == GRID
    assert shown.grid.any()
