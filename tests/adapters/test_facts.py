"""Facts follow what users do to a model: replaced heads, subclasses."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import nn
from torchvision import models

import visattn
from tests import zoo
from visattn.adapters import find_adapter


@pytest.mark.parametrize(
    ("name", "head"),
    [("class", "head"), ("distilled", "head"), ("swin", "head.fc"), ("cait", "head")],
)
def test_a_replaced_head_has_its_own_classes(name: str, head: str) -> None:
    module = zoo.build(name)
    old = module.get_submodule(head)
    assert isinstance(old, nn.Linear)
    parent, _, last = head.rpartition(".")
    setattr(module.get_submodule(parent), last, nn.Linear(old.in_features, 7))
    if name == "distilled":
        module.head_dist = nn.Linear(old.in_features, 7)
    assert find_adapter(module).num_classes == 7


def test_a_replaced_head_is_explained_and_labelled() -> None:
    module = zoo.vit()
    module.head = nn.Sequential(nn.Dropout(), nn.Linear(32, 3))
    model = visattn.load_model(module, image_size=zoo.SIZE, labels=["a", "b", "c"])
    (found,) = visattn.explain(model, zoo.images(1), method="gae", target="b")
    assert found.target is not None
    assert found.target.label == "b"


def test_a_head_that_was_taken_away_leaves_no_classes() -> None:
    module = zoo.vit()
    module.head = nn.Identity()
    assert find_adapter(module).num_classes == 0


def test_a_convolutional_network_with_a_replaced_head() -> None:
    module = timm.create_model("test_resnet")
    module.fc = nn.Linear(module.fc.in_features, 6)
    assert find_adapter(module).num_classes == 6


@pytest.mark.parametrize("build", [models.swin_t, models.swin_v2_t])
def test_torchvision_heads_may_be_sequences(build: object) -> None:
    with torch.device("meta"):
        module = build()  # type: ignore[operator]
        module.head = nn.Sequential(nn.Dropout(), nn.Linear(module.head.in_features, 4))
    assert find_adapter(module).num_classes == 4


class Mine(SwinTransformer):
    """A subclass that may do anything."""


def test_a_subclass_from_elsewhere_is_named_in_every_family() -> None:
    module = Mine(img_size=64, embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4)
    (found,) = visattn.explain(module, torch.randn(1, 3, 64, 64), method="rollout")
    assert any("Mine is read as SwinTransformer" in note for note in found.warnings)


def test_a_subclass_of_transformers_is_read_as_its_parent() -> None:
    transformers = pytest.importorskip("transformers")

    class MyClassifier(transformers.ViTForImageClassification):
        pass

    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=48, patch_size=16, num_labels=3,
    )  # fmt: skip
    adapter = find_adapter(MyClassifier(config))
    assert adapter.num_classes == 3
    (found,) = visattn.explain(MyClassifier(config), torch.randn(1, 3, 48, 48), method="rollout")
    assert found.provenance["readout"] == "class token"
    assert any("MyClassifier is read as" in note for note in found.warnings)
