"""Where the cells of a convolutional network's last feature map lie."""

from __future__ import annotations

import pytest
import timm
import torch

from tests import zoo
from visattn.adapters import Refusal, Site, find_adapter
from visattn.images import Size
from visattn.models import Model
from visattn.observation import observe


def test_a_cell_answers_to_its_part_of_the_input(lite0: Model) -> None:
    """Changed squares move the feature map around their own cell, on average to a tenth of one."""
    site = lite0.adapter.cam_site()
    assert isinstance(site, Site)

    def features(inputs: torch.Tensor) -> torch.Tensor:
        seen = observe(lite0.module, inputs, attention=False, sites=[site])
        return seen.activations[site].value

    generator = torch.Generator().manual_seed(0)
    plain = torch.zeros(1, 3, 224, 224)
    noise = torch.randn(3, 32, 32, generator=generator)
    cells = [(row, col) for row in range(1, 6) for col in range(1, 6)]
    changed = plain.repeat(len(cells), 1, 1, 1)
    for index, (row, col) in enumerate(cells):
        changed[index, :, 32 * row : 32 * row + 32, 32 * col : 32 * col + 32] += noise
    moved = (features(changed) - features(plain)).pow(2).sum(dim=1)
    mass = moved / moved.sum(dim=(1, 2), keepdim=True)
    place = torch.arange(7.0)
    centre = torch.stack([(mass.sum(2) * place).sum(1), (mass.sum(1) * place).sum(1)], dim=1)
    assert (centre - torch.tensor(cells)).mean(dim=0).abs().max() < 0.15


@pytest.mark.parametrize(("name", "stride"), [("efficientnet", 32), ("resnet", 32)])
def test_the_grid_is_that_of_the_last_stage(name: str, stride: int) -> None:
    adapter = find_adapter(zoo.build(name))
    grid, cell = adapter.grid(Size(96, 160))
    assert grid == (3, 5)
    assert cell == (stride, stride)
    seen = observe(
        adapter.module, torch.zeros(1, 3, 96, 160), attention=False, sites=[adapter.cam_site()]
    )
    assert seen.activations[adapter.cam_site()].value.shape[2:] == grid


def test_the_head_of_vgg_leaves_no_map_so_its_input_is_read() -> None:
    with torch.device("meta"):
        module = timm.create_model("vgg11").eval()
    assert find_adapter(module).cam_site() == Site("pre_logits", "input", "channels_first")


def test_there_is_nothing_to_walk() -> None:
    chain = find_adapter(zoo.build("resnet")).chain(Size(96, 96))
    assert isinstance(chain, Refusal)
    assert "class activation maps" in chain.reason
