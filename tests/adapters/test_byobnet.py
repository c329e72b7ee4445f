"""Networks of ByobNet that no walk can explain, and what applies to them instead."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.byobnet import ByoBlockCfg
from torch import nn

import visattn
from tests import zoo
from visattn.adapters import Chain, Refusal, find_adapter
from visattn.errors import UnsupportedMethodError
from visattn.images import Size

SIZE = (64, 96)


def lambda_resnet() -> nn.Module:
    torch.manual_seed(0)
    stages = [ByoBlockCfg(type="self_attn", d=1, c=48, s=2, gs=0, br=0.5) for _ in range(2)]
    return timm.create_model("lambda_resnet26t", blocks=stages, stem_chs=16, num_classes=5).eval()


def test_walks_through_lambda_layers_are_refused_by_name() -> None:
    module = lambda_resnet()
    refused = find_adapter(module).chain(Size(*SIZE))
    assert isinstance(refused, Refusal)
    with pytest.raises(UnsupportedMethodError, match="lambda layers"):
        visattn.explain(module, zoo.images(1, SIZE), method="rollout")


def test_class_activation_maps_of_lambda_layers_have_the_last_grid() -> None:
    module = lambda_resnet()
    (shown,) = visattn.explain(module, zoo.images(1, SIZE), method="gradcam", target=1)
    assert find_adapter(module).grid(Size(*SIZE)) == (Size(4, 6), (16.0, 16.0))
    assert shown.grid.shape == (4, 6)


def test_a_lambda_layer_among_other_attention_is_named() -> None:
    chain = find_adapter(zoo.build("lambda_halonet")).chain(Size(*SIZE))
    assert isinstance(chain, Chain)
    assert any("lambda" in note for note in chain.notes)


def test_networks_without_attention_stay_with_the_general_family() -> None:
    assert find_adapter(timm.create_model("test_byobnet")).family == "convnet"


def test_a_feature_map_that_blocks_do_not_divide_is_refused_by_name() -> None:
    module = timm.create_model("halonet26t", num_classes=3).eval()
    with pytest.raises(UnsupportedMethodError, match="which do not fit; use the image_size"):
        visattn.explain(module, torch.zeros(1, 3, 96, 144), method="rollout")
