"""torchvision, open_clip and people's own modules, beyond the proofs of the families."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import visattn
from tests import zoo
from tests.zoo import torchvision_models
from visattn.adapters import (
    ADAPTERS,
    Adapter,
    Chain,
    Readout,
    Refusal,
    Site,
    Step,
    TokenLayout,
    find_adapter,
)
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.models.text import TextTower, VisionLanguageModel
from visattn.observation import capture

# torchvision ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head"),
    [("vit", "heads.head"), ("swin", "head"), ("maxvit", "classifier.5")],
)
def test_a_replaced_head_counts_its_own_classes(name: str, head: str) -> None:
    module = getattr(torchvision_models, name)()
    old = module.get_submodule(head)
    parent, _, last = head.rpartition(".")
    for new, classes in ((nn.Linear(old.in_features, 3), 3), (nn.Identity(), 0)):
        setattr(module.get_submodule(parent), last, new)
        assert find_adapter(module).num_classes == classes


def test_maxvit_at_another_size_is_refused_with_the_size_it_needs() -> None:
    refusal = find_adapter(torchvision_models.maxvit()).chain(Size(96, 96))
    assert isinstance(refusal, Refusal)
    assert "input_size=(96, 96)" in refusal.reason


def test_torchvision_swin_at_a_size_smaller_than_its_window() -> None:
    inputs = zoo.images(1, (40, 24))
    (found,) = visattn.explain(torchvision_models.swin().eval(), inputs, method="rollout")
    assert found.grid.shape == (10, 6)


# open_clip --------------------------------------------------------------------------------------

open_clip = pytest.importorskip("open_clip")
from tests.zoo import open_clip_models  # noqa: E402


def test_towers_that_pool_twice_are_refused() -> None:
    module = open_clip_models.vit(attentional_pool="parallel", attn_pooler_heads=2)
    refusal = find_adapter(module).chain(Size(*zoo.SIZE))
    assert isinstance(refusal, Refusal)
    assert "pools twice" in refusal.reason


def test_a_timm_tower_that_pools_behind_its_trunk_is_refused() -> None:
    module = open_clip_models.timm_inside("token", "linear", 12)
    pool = type("AttentionPool2d", (nn.Identity,), {})()
    module.head = nn.Sequential(pool, module.head.proj)
    refusal = find_adapter(module).chain(Size(160, 160))
    assert isinstance(refusal, Refusal)
    assert "AttentionPool2d" in refusal.reason


def test_the_attention_pool_of_a_resnet_is_read_by_its_mean_query() -> None:
    module = zoo.build("open_clip_resnet").double()
    model, inputs = visattn.load_model(module), zoo.images(1, (64, 64)).double()
    (found,) = visattn.explain(model, inputs, method="attention")
    weights = capture(model, inputs)["attnpool"].weights().mean(dim=1)[0, 0]
    expected = weights[1:] + weights[0] / (len(weights) - 1)
    assert np.allclose(found.grid.reshape(-1), expected.numpy(), rtol=1e-5)
    assert found.grid.sum() == pytest.approx(1)


def test_a_text_is_explained_on_the_photo() -> None:
    """The cosine to a text, differentiated through the image tower: its map depends on the text."""
    module = zoo.build("open_clip_vit")
    plain = visattn.load_model(module, image_size=zoo.SIZE)
    words = torch.nn.functional.normalize(torch.randn(2, 12, generator=torch.manual_seed(1)))
    tower = TextTower(nn.Identity(), lambda texts: torch.stack([words[len(t) % 2] for t in texts]))
    model = VisionLanguageModel(
        plain.module, "clip", plain.adapter, None, plain.input_size, text=tower
    )
    inputs = zoo.images(2)
    targets = [visattn.TextTarget(text) for text in ("a cat", "a duck")]
    maps = [visattn.explain(model, inputs, target=target) for target in targets]
    assert [m.method for found in maps for m in found] == ["cp_lrp"] * 4
    assert maps[0][0].target is not None
    assert maps[0][0].target.label == "similarity to 'a cat'"
    for one, other in zip(*maps, strict=True):
        assert not np.allclose(one.grid / one.grid.max(), other.grid / other.grid.max(), atol=1e-3)


# People's own modules ---------------------------------------------------------------------------


class Own(nn.Module):
    """A transformer that someone has written: torch's encoder over patches, one class token."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 2, 48, dropout=0.0, batch_first=True)
        self.patches = nn.Conv2d(3, 32, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, 32))
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(batch).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(batch), -1, -1), tokens], dim=1)
        return self.head(self.encoder(tokens)[:, 0])


@pytest.fixture
def registered() -> Iterator[type[Adapter]]:
    """The example of the documentation, taken out of the registry again."""
    ADAPTERS.names()

    @visattn.register_adapter("own")
    class OwnAdapter(Adapter):
        family = "own"

        @classmethod
        def matches(cls, module: nn.Module) -> bool:
            return isinstance(module, Own)

        def chain(self, size: Size) -> Chain:
            grid = Size(size.height // 16, size.width // 16)
            layout = TokenLayout(("class",), grid, (16.0, 16.0))
            names = [f"encoder.layers.{i}.self_attn" for i in range(2)]
            steps = tuple(Step.attention(layout, name) for name in names)
            return Chain(steps, layout, Readout("class token", layout.one(0)))

        def cam_site(self) -> Site:
            return Site("encoder.layers.1", "input", "tokens")

    yield OwnAdapter
    ADAPTERS._entries.pop("own")


@pytest.mark.parametrize("method", ["attention", "rollout", "gae", "gradcam"])
def test_an_own_module_is_explained_through_its_adapter(
    registered: type[Adapter], method: str
) -> None:
    torch.manual_seed(0)
    module, inputs = Own().eval(), zoo.images(2)
    with torch.no_grad():
        expected = module(inputs)
    model = visattn.load_model(module, labels=["a", "b", "c", "d"])
    assert isinstance(model.adapter, registered)
    maps = visattn.explain(model, inputs, method=method)
    assert [m.grid.shape for m in maps] == [(3, 5), (3, 5)]
    with torch.no_grad():
        assert torch.equal(module(inputs), expected)


def test_without_its_adapter_an_own_module_is_pointed_to_register_adapter() -> None:
    with pytest.raises(UnsupportedMethodError, match="register_adapter"):
        visattn.explain(Own().eval(), zoo.images(1), method="rollout")


@pytest.mark.parametrize("name", ["torchvision_vit", "torchvision_swin", "open_clip_vit"])
def test_wrapped_frozen_and_half_precision_modules_give_the_same_map(name: str) -> None:
    module, inputs = zoo.build(name), zoo.images(1, zoo.size_of(name))
    (expected,) = visattn.explain(module, inputs, method="rollout")
    frozen = copy.deepcopy(module).requires_grad_(False)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for changed in (nn.DataParallel(frozen), torch.compile(frozen, backend="eager"), last):
            (found,) = visattn.explain(changed, inputs, method="rollout")
            assert np.allclose(found.grid, expected.grid, rtol=1e-4)
    (half,) = visattn.explain(copy.deepcopy(module).bfloat16(), inputs, method="rollout")
    assert np.abs(half.grid - expected.grid).max() < 0.1 * expected.grid.max()


def gradient_target(outputs: torch.Tensor) -> Any:
    return outputs[:, 0]


@pytest.mark.parametrize("name", ["torchvision_vit", "open_clip_vit"])
def test_frozen_weights_and_callers_without_gradients_still_get_gradients(name: str) -> None:
    module, inputs = zoo.build(name), zoo.images(1, zoo.size_of(name))
    (expected,) = visattn.explain(module, inputs, method="gae", target=gradient_target)
    frozen = copy.deepcopy(module).requires_grad_(False)
    with torch.no_grad():
        (found,) = visattn.explain(frozen, inputs, method="gae", target=gradient_target)
    assert np.allclose(found.grid, expected.grid, rtol=1e-4)
    assert not any(weight.requires_grad for weight in frozen.parameters())
